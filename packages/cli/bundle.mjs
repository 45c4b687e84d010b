/**
 * Bundles the command line as one file, `dist/effect-kv.js`: what npm installs, without dependencies. With an argument, to
 * that file. The licenses of the packages in it are at its end.
 */
import { build } from "bundler"
import { appendFileSync, chmodSync, readdirSync, readFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

const here = fileURLToPath(new URL(".", import.meta.url))
const outfile = process.argv[2] ?? join(here, "dist/effect-kv.js")

const { metafile } = await build({
  absWorkingDir: here,
  entryPoints: ["src/main.ts"],
  outfile,
  bundle: true,
  format: "esm",
  platform: "node",
  target: "node22.19",
  minifySyntax: true,
  minifyWhitespace: true,
  // The client of `EtcdClient`, which the command line does not use, would be a third of the file.
  external: ["*/etcd3Client.ts"],
  metafile: true,
  logLevel: "warning"
})

/** The folders of the packages from npm that the bundle has code of. */
const packages = new Set(
  Object.keys(metafile.inputs).flatMap((file) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(file)?.[0] ?? [])
)

for (const folder of [...packages].map((folder) => join(here, folder)).sort()) {
  const { name, version } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"))
  const file = readdirSync(folder).find((file) => /^licen[cs]e/i.test(file))
  if (file === undefined) throw new Error(`${name} in ${dirname(folder)} has no license that could be copied`)
  appendFileSync(outfile, `/*\n${name} ${version}\n\n${readFileSync(join(folder, file), "utf8").trim()}\n*/\n`)
}
chmodSync(outfile, 0o755)
