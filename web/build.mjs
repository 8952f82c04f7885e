// Builds the page's template: one HTML file with its script and styles inlined, for Python to put the data in.
//
//   node build.mjs           writes src/modelmeter/render/page/template.html
//   node build.mjs --check   fails where the file there is not what would be written

import { readFile, rename, writeFile } from "node:fs/promises";
import { build } from "esbuild";

const target = new URL("../src/modelmeter/render/page/template.html", import.meta.url);

async function bundled(entry) {
  const { outputFiles, metafile } = await build({
    absWorkingDir: import.meta.dirname,
    entryPoints: [entry],
    bundle: true,
    write: false,
    metafile: true,
    minify: true,
    charset: "utf8",
    legalComments: "none",
    format: entry.endsWith(".ts") ? "iife" : undefined,
    target: ["es2022", "chrome110", "firefox115", "safari16.4"],
  });
  const [{ inputs }] = Object.values(metafile.outputs);
  return { text: outputFiles[0].text.trim(), files: Object.keys(inputs).filter((name) => inputs[name].bytesInOutput) };
}

// Licences ask to go along with copies: those of the packages that the script has something of, equal ones once.
async function licences(files) {
  const names = new Set(files.map((file) => /^node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(file)?.[1]).filter(Boolean));
  const holders = new Map();
  for (const name of [...names].sort()) {
    const text = await readFile(new URL(`node_modules/${name}/LICENSE`, import.meta.url), "utf8");
    const plain = text.trim().replaceAll("\r\n", "\n").replaceAll("--", "- -");
    holders.set(plain, [...(holders.get(plain) ?? []), name]);
  }
  const parts = [...holders].map(([text, packages]) => `${packages.join(", ")}:\n\n${text}`);
  return `<!-- This page's script has parts of the following packages.\n\n${parts.join("\n\n")}\n-->`;
}

// Neither may hold what ends its element; in scripts "<\/script" means the same.
const inScript = (text) => text.replaceAll("</script", "<\\/script").replaceAll("<!--", "<\\!--");

async function template() {
  const [html, script, style] = await Promise.all([
    readFile(new URL("src/template.html", import.meta.url), "utf8"),
    bundled("src/main.ts"),
    bundled("src/style/page.css"),
  ]);
  if (style.text.includes("</style")) throw new Error("the styles hold </style");
  const parts = { "/*style*/": style.text, "/*script*/": inScript(script.text), "<!--licences-->": await licences(script.files) };
  return html.replace(/\/\*(?:style|script)\*\/|<!--licences-->/g, (mark) => parts[mark]);
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
