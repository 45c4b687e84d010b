/**
 * The consumer step: the packed packages in an empty project, with types checked in both module resolutions, programs
 * run, the command line run, and the suite run.
 */
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { capture } from "./exec.mjs"
import { packages, root } from "./paths.mjs"

const pinned = (name, folder = ".") =>
  JSON.parse(readFileSync(join(root, folder, "package.json"), "utf8")).devDependencies[name]

const resolutions = [["NodeNext", "NodeNext"], ["ESNext", "Bundler"]]

const dependencies = (tarballs) => ({
  ...Object.fromEntries(
    tarballs.map((file) => [`@effect-kv/${file.replace(/^effect-kv-(.*?)-\d.*$/, "$1")}`, `file:tarballs/${file}`])
  ),
  ...Object.fromEntries(
    ["@effect/vitest", "@types/node", "effect", "typescript", "vitest"].map((name) => [name, pinned(name)])
  ),
  "@effect/sql-pg": pinned("@effect/sql-pg", "packages/postgres")
})

export const checkConsumer = async (temporary) => {
  const project = join(temporary, "consumer")
  const tarballs = join(project, "tarballs")
  mkdirSync(tarballs, { recursive: true })
  cpSync(join(root, "scripts", "consumer"), project, { recursive: true })
  for (const name of packages) {
    await capture("pnpm", ["pack", "--pack-destination", tarballs], { cwd: join(root, "packages", name) })
  }
  writeFileSync(
    join(project, "package.json"),
    JSON.stringify({ private: true, type: "module", dependencies: dependencies(readdirSync(tarballs)) })
  )
  const flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error"]
  await capture("npm", ["install", ...flags], { cwd: project })
  const binary = (name) => join(project, "node_modules", ".bin", name)
  for (const [module, moduleResolution] of resolutions) {
    const options = ["--module", module, "--moduleResolution", moduleResolution, "--outDir", `out-${module}`]
    await capture(binary("tsc"), ["-p", ".", ...options], { cwd: project })
  }
  for (const program of ["memory.js", "etcd.js", "postgres.js"]) {
    await capture("node", [join("out-NodeNext", program)], { cwd: project })
  }
  await capture(binary("effect-kv"), ["--version"], { cwd: project })
  await capture(binary("effect-kv"), ["--url", "mem:", "lock", "installed", "--", "true"], { cwd: project })
  await capture(binary("vitest"), ["run", "--root", "out-NodeNext"], { cwd: project })
  rmSync(project, { recursive: true })
}
