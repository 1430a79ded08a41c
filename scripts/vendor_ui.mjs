#!/usr/bin/env node
// Refreshes static/vendor/ and tests/ui/vendor/ from npm, and checks them. For maintainers: running
// and testing llmsnap needs no Node.
//
//   node scripts/vendor_ui.mjs                fetch the versions below and write the folders anew
//   node scripts/vendor_ui.mjs --check        compare the files with their manifests; no network
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
import { gzipSync } from "node:zlib";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));

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

// What only the browser tests need.
const TEST_PACKAGES = [{ name: "axe-core", version: "4.14.1", files: [["axe.min.js", "axe.js.gz"]] }];

const FOLDERS = [
  [join(ROOT, "static", "vendor"), PACKAGES],
  [join(ROOT, "tests", "ui", "vendor"), TEST_PACKAGES],
];
const MANIFEST = "manifest.json";

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

const finished = (data, target, globalName) => {
  if (target.endsWith(".gz")) return gzipSync(data, { level: 9 });
  return target.endsWith(".js") ? adapt(data.toString("utf8"), target, globalName) : data;
};

function write(vendor, target, data) {
  const path = join(vendor, target);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, data);
  return { [target]: sha256(data) };
}

/** Copy what is wanted of a package and return its entry in the manifest. */
function take(wanted, scratch, vendor) {
  const { folder, version, integrity, licence } = fetchPackage(wanted, scratch);
  const files = {};
  for (const [source, target, globalName] of wanted.files) {
    const data = readFileSync(join(folder, source));
    Object.assign(files, write(vendor, target, finished(data, target, globalName)));
  }
  for (const [source, target, ending] of wanted.folders ?? []) {
    for (const name of readdirSync(join(folder, source)).filter((each) => each.endsWith(ending)).sort()) {
      Object.assign(files, write(vendor, `${target}/${name}`, readFileSync(join(folder, source, name))));
    }
  }
  const text = readdirSync(folder).find((each) => /^licen[sc]e/i.test(each));
  const copy = `licences/${wanted.name.replace("@", "").replace("/", "-")}.txt`;
  if (text) Object.assign(files, write(vendor, copy, readFileSync(join(folder, text))));
  return { name: wanted.name, version, licence, integrity, files };
}

function refresh() {
  const scratch = mkdtempSync(join(tmpdir(), "vendor-ui-"));
  try {
    for (const [vendor, wanted] of FOLDERS) {
      rmSync(vendor, { recursive: true, force: true });
      const packages = wanted.map((each) => take(each, scratch, vendor));
      writeFileSync(join(vendor, MANIFEST), `${JSON.stringify({ packages }, null, 2)}\n`);
      for (const each of packages) console.log(`${each.name} ${each.version} (${each.licence})`);
    }
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** Compare one folder with its manifest; return how many files are not what it says. */
function check(vendor) {
  const { packages } = JSON.parse(readFileSync(join(vendor, MANIFEST), "utf8"));
  const listed = packages.flatMap((each) => Object.entries(each.files));
  const same = ([file, sum]) => existsSync(join(vendor, file)) && sha256(readFileSync(join(vendor, file))) === sum;
  const wrong = listed.filter((each) => !same(each));
  for (const [file] of wrong) console.error(`${file} is not what ${MANIFEST} says`);
  console.log(`${relative(ROOT, vendor)}: ${listed.length} files of ${packages.length} packages, ${wrong.length} wrong`);
  return wrong.length;
}

if (process.argv.includes("--check")) process.exitCode = FOLDERS.map(([vendor]) => check(vendor)).some(Boolean) ? 1 : 0;
else refresh();
