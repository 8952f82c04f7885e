import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { before, describe, test } from "node:test";

import { buildSync } from "esbuild";

const browser = ["chromium", "chromium-browser", "google-chrome"].find((name) => spawnSync("which", [name]).status === 0);

// No style element or attribute is allowed in the page: the drawings bring theirs by other means.
const POLICY = "default-src 'none'; script-src 'self'; style-src 'none'; img-src data:; connect-src 'self'";

const PAGE = `<!doctype html><html lang="en"><meta charset="utf-8"><title>Drawings</title><main><h1>Drawings</h1></main><script src="/script"></script>`;

/** What the page in `in-the-page.ts` found out, in a browser of its own that is gone afterwards. */
async function answers(): Promise<Record<string, any>> {
  const folder = mkdtempSync(join(tmpdir(), "modelmeter-drawings-"));
  const { outputFiles } = buildSync({ entryPoints: [join(import.meta.dirname, "in-the-page.ts")], bundle: true, write: false, format: "iife", charset: "utf8" });
  let answered: (text: string) => void;
  const answer = new Promise<string>((resolve) => (answered = resolve));
  const server = createServer((request, response) => {
    if (request.method === "POST") {
      let text = "";
      request.on("data", (part) => (text += String(part)));
      request.on("end", () => answered(text));
      response.end();
    } else if (request.url === "/script") response.setHeader("content-type", "text/javascript").end(outputFiles[0]!.text);
    else response.setHeader("content-type", "text/html").setHeader("content-security-policy", POLICY).end(PAGE);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--force-prefers-reduced-motion"];
  const page = spawn(browser!, [...options, `--user-data-dir=${folder}`, "--window-size=1200,900", "--remote-debugging-port=0", `http://127.0.0.1:${port}/`], { stdio: "ignore" });
  const gone = new Promise((resolve) => page.on("exit", resolve));
  const timer = setTimeout(() => answered("{}"), 60_000);
  try {
    return JSON.parse(await answer) as Record<string, any>;
  } finally {
    clearTimeout(timer);
    page.kill();
    await gone;
    server.close();
    await rm(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 200 });
  }
}

const EXPECTED = { roofline: "group", icicle: "tree", timeline: "group", graph: "tree" };

describe("drawings in a browser", { skip: browser ? false : "no Chromium found" }, () => {
  let results: Record<string, any> = {};

  before(async () => {
    results = await answers();
  });

  for (const [name, role] of Object.entries(EXPECTED)) {
    test(name, () => {
      const found = results[name];
      assert.equal(found.error, undefined);
      assert.deepEqual(found.violations, []);
      assert.equal(found.role, role);
      assert.ok(found.title && found.label);
      assert.ok(found.widths[0] > 800 && found.widths[1] <= 700, "it follows its container");
      assert.equal(typeof found.byKey, "string", "the keyboard selects");
      assert.equal(found.last, null, "Escape selects nothing");
      assert.ok(found.quiet, "select() calls no event");
      assert.ok(found.hovered > 0 || name === "roofline");
      assert.ok(found.marked > 0, "what is selected is marked");
      assert.deepEqual([found.images, found.handlers], [0, 0], "names are no markup");
      assert.equal(found.left, 0, "destroy() leaves nothing");
      const { size, ...svg } = found.svg;
      assert.deepEqual(svg, { wellFormed: true, foreign: 0, says: true, colours: true, quiet: true, again: true });
      assert.match(size, /^0 0 \d+ \d+$/);
    });
  }

  test("no name was run", () => assert.equal(results["hit"], false));
});
