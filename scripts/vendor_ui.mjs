#!/usr/bin/env node
// Refreshes static/vendor/ from npm, and checks it. For maintainers: running llmsnap needs no Node.
//
//   node scripts/vendor_ui.mjs                fetch the versions below and write static/vendor/
//   node scripts/vendor_ui.mjs --check        compare the files with manifest.json; no network
//
// Only finished files of each package are taken. The one change made to them, so that a browser
// loads them without an import map: bare imports become relative ones, and files that only know
// global names export their one name. manifest.json says where each file came from.

import { createHash } from "node:crypto";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const VENDOR = join(ROOT, "static", "vendor");
const MANIFEST = join(VENDOR, "manifest.json");

const LANGUAGES = "bash c cpp css diff dockerfile go ini java javascript json kotlin lua makefile "
  + "markdown php python ruby rust shell sql swift typescript xml yaml";

// What is taken: package@version, its licence, and [file in the package, name here, global name].
const PACKAGES = [
  { name: "preact", version: "11.2.0", files: [["dist/preact.mjs", "preact.js"], ["hooks/dist/hooks.mjs", "preact-hooks.js"]] },
  { name: "@preact/signals-core", version: "1.14.5", files: [["dist/signals-core.mjs", "signals-core.js"]] },
  { name: "@preact/signals", version: "2.11.4", files: [["dist/signals.mjs", "signals.js"]] },
  { name: "htm", version: "3.1.1", files: [["dist/htm.mjs", "htm.js"]] },
  { name: "uplot", version: "1.6.32", files: [["dist/uPlot.iife.min.js", "uplot.js", "uPlot"], ["dist/uPlot.min.css", "uplot.css"]] },
  { name: "marked", version: "18.2.1", files: [["lib/marked.esm.js", "marked.js"]] },
  { name: "dompurify", version: "3.4.18", files: [["dist/purify.min.js", "dompurify.js", "globalThis.DOMPurify"]] },
  {
    name: "@highlightjs/cdn-assets",
    version: "11.12.0",
    files: [
      ["es/core.min.js", "highlight/core.js"],
      ...LANGUAGES.split(" ").map((id) => [`es/languages/${id}.min.js`, `highlight/${id}.js`]),
    ],
  },
  { name: "katex", version: "0.19.1", files: [["dist/katex.min.js", "katex/katex.js", "globalThis.katex"], ["dist/katex.min.css", "katex/katex.css"]], folders: [["dist/fonts", "katex/fonts", ".woff2"]] },
  { name: "@fontsource-variable/inter", version: "5.3.0", files: [["files/inter-latin-wght-normal.woff2", "inter/inter-latin.woff2"]] },
];

const MODULES = {
  preact: "preact.js",
  "preact/hooks": "preact-hooks.js",
  "@preact/signals-core": "signals-core.js",
};

const sha256 = (data) => createHash("sha256").update(data).digest("hex");

/** Fetch one package with npm and return its folder and what the registry says of it. */
function fetchPackage({ name, version }, scratch) {
  const answer = execFileSync("npm", ["pack", `${name}@${version}`, "--json", "--silent"], { cwd: scratch, encoding: "utf8" });
  const [packed] = JSON.parse(answer);
  const folder = mkdtempSync(join(scratch, "package-"));
  execFileSync("tar", ["-xzf", join(scratch, basename(packed.filename)), "-C", folder, "--strip-components=1"]);
  const described = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  return { folder, version: packed.version, integrity: packed.integrity, licence: described.license };
}

/** Make a JavaScript file loadable by a browser on its own. */
function adapt(text, target, globalName) {
  const imports = /(\b(?:from|import)\s*)"([^"./][^"]*)"/g;
  const rewritten = text.replace(imports, (whole, keyword, module) => {
    if (!(module in MODULES)) return whole;
    const path = relative(dirname(target), MODULES[module]);
    return `${keyword}"${path.startsWith(".") ? path : `./${path}`}"`;
  });
  const unmapped = rewritten.replace(/\n?\/\/# sourceMappingURL=\S*\s*$/, "\n");
  return globalName ? `${unmapped}\nexport default ${globalName};\n` : unmapped;
}

function write(target, data) {
  const path = join(VENDOR, target);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, data);
  return { [target]: sha256(data) };
}

/** Copy what is wanted of a package and return its entry in the manifest. */
function take(wanted, scratch) {
  const { folder, version, integrity, licence } = fetchPackage(wanted, scratch);
  const files = {};
  for (const [source, target, globalName] of wanted.files) {
    const data = readFileSync(join(folder, source));
    const isScript = target.endsWith(".js");
    Object.assign(files, write(target, isScript ? adapt(data.toString("utf8"), target, globalName) : data));
  }
  for (const [source, target, ending] of wanted.folders ?? []) {
    for (const name of readdirSync(join(folder, source)).filter((each) => each.endsWith(ending)).sort()) {
      Object.assign(files, write(`${target}/${name}`, readFileSync(join(folder, source, name))));
    }
  }
  const text = readdirSync(folder).find((each) => /^licen[sc]e/i.test(each));
  const copy = `licences/${wanted.name.replace("@", "").replace("/", "-")}.txt`;
  if (text) Object.assign(files, write(copy, readFileSync(join(folder, text))));
  return { name: wanted.name, version, licence, integrity, files };
}

function refresh() {
  const scratch = mkdtempSync(join(tmpdir(), "vendor-ui-"));
  try {
    rmSync(VENDOR, { recursive: true, force: true });
    const packages = PACKAGES.map((wanted) => take(wanted, scratch));
    writeFileSync(MANIFEST, `${JSON.stringify({ packages }, null, 2)}\n`);
    for (const each of packages) console.log(`${each.name} ${each.version} (${each.licence})`);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function check() {
  const { packages } = JSON.parse(readFileSync(MANIFEST, "utf8"));
  const listed = packages.flatMap((each) => Object.entries(each.files));
  const wrong = listed.filter(([file, sum]) => !existsSync(join(VENDOR, file)) || sha256(readFileSync(join(VENDOR, file))) !== sum);
  for (const [file] of wrong) console.error(`${file} is not what manifest.json says`);
  console.log(`${listed.length} files of ${packages.length} packages, ${wrong.length} wrong`);
  return wrong.length ? 1 : 0;
}

if (process.argv.includes("--check")) process.exitCode = check();
else refresh();
