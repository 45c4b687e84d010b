/**
 * Bundles the command line as one file, `dist/effect-kv.js`: what npm installs, without dependencies. With an argument, to
 * that file.
 */
import { build } from "bundler"
import { chmodSync } from "node:fs"
import { fileURLToPath } from "node:url"

const outfile = process.argv[2] ?? fileURLToPath(new URL("dist/effect-kv.js", import.meta.url))

await build({
  entryPoints: [fileURLToPath(new URL("src/main.ts", import.meta.url))],
  outfile,
  bundle: true,
  format: "esm",
  platform: "node",
  target: "node22.19",
  minifySyntax: true,
  minifyWhitespace: true,
  // The client of `EtcdClient`, which the command line does not use, would be a third of the file.
  external: ["*/etcd3Client.ts"],
  logLevel: "warning"
})
chmodSync(outfile, 0o755)
