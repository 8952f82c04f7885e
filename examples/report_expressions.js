// Works out a ModelMeter report's costs and times for other values of its keys, from report.json alone.
//
//   const report = JSON.parse(text);                      // report.json
//   const keys = { ...report.expressions.keys, batch: 8 }; // change what you like
//   const costs = evaluate(report.expressions, keys);      // name of a root -> number
//
// A root is named modules/<module>/<stage>/<what> or totals/<what>. Integers are exact below 2^53.

const operations = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  floordiv: (a, b) => Math.floor(a / b),
  truediv: (a, b) => a / b,
  maximum: (a, b) => Math.max(a, b),
  minimum: (a, b) => Math.min(a, b),
  equal: (a, b) => (a === b ? 1 : 0),
  less: (a, b) => (a < b ? 1 : 0),
  where: (a, b, c) => (a !== 0 ? b : c),
};

function evaluate(expressions, keys) {
  const found = [];
  for (const [operation, ...rest] of expressions.nodes) {
    if (operation === "number") found.push(rest[0]);
    else if (operation === "key") found.push(keys[rest[0]]);
    else found.push(operations[operation](...rest.map((place) => found[place])));
  }
  const named = {};
  for (const [name, place] of Object.entries(expressions.roots)) named[name] = found[place];
  return named;
}

// Seconds of a stage, or of all stages: case is "low", "estimate" or "high".
function seconds(costs, stage, which = "estimate") {
  let sum = 0;
  for (const [name, value] of Object.entries(costs)) {
    const parts = name.split("/");
    const [kind, place, what] = [parts[0], parts.at(-2), parts.at(-1)];
    if (kind === "modules" && what === `time_s.${which}` && (!stage || place === stage)) sum += value;
  }
  return sum;
}
