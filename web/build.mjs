// Builds the page's template: one HTML file with its script and styles inlined, for Python to put the data in.
//
//   node build.mjs           writes src/modelmeter/render/page/template.html
//   node build.mjs --check   fails where the file there is not what would be written

import { readFile, rename, writeFile } from "node:fs/promises";
import { build } from "esbuild";

const target = new URL("../src/modelmeter/render/page/template.html", import.meta.url);

async function bundled(entry) {
  const { outputFiles } = await build({
    absWorkingDir: import.meta.dirname,
    entryPoints: [entry],
    bundle: true,
    write: false,
    minify: true,
    charset: "utf8",
    legalComments: "none",
    format: entry.endsWith(".ts") ? "iife" : undefined,
    target: ["es2022", "chrome110", "firefox115", "safari16.4"],
  });
  return outputFiles[0].text.trim();
}

// Neither may hold what ends its element; in scripts "<\/script" means the same.
const inScript = (text) => text.replaceAll("</script", "<\\/script").replaceAll("<!--", "<\\!--");

async function template() {
  const [html, script, style] = await Promise.all([
    readFile(new URL("src/template.html", import.meta.url), "utf8"),
    bundled("src/main.ts"),
    bundled("src/style/page.css"),
  ]);
  if (style.includes("</style")) throw new Error("the styles hold </style");
  const parts = { "/*style*/": style, "/*script*/": inScript(script) };
  return html.replace(/\/\*(?:style|script)\*\//g, (mark) => parts[mark]);
}

const text = await template();
if (process.argv.includes("--check")) {
  const there = await readFile(target, "utf8").catch(() => "");
  if (there !== text) {
    console.error("src/modelmeter/render/page/template.html is not what web/ builds; run: make page");
    process.exit(1);
  }
} else {
  const beside = new URL(`${target.href}.part`);
  await writeFile(beside, text);
  await rename(beside, target);
  console.log(`template.html: ${(text.length / 1e3).toFixed(0)} kB`);
}
