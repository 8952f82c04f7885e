"""The service: reports over HTTP, under the contract of ``contracts/openapi.yaml``. ``app`` puts it together.

Nothing is imported here, so that a worker starts without the framework.
"""
