/**
 * The API reference in `docs/api`: generated from the docstrings of everything public, and committed, so that a change of
 * the API is visible in review.
 */
import { cpSync, existsSync, globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { readApi } from "./apiModules.mjs"
import { folder, pages } from "./apiPages.mjs"
import { capture } from "./exec.mjs"
import { root } from "./paths.mjs"
import { Stop } from "./progress.mjs"

/** Modules whose docstrings are not complete yet. */
const incomplete = new Set([
  "core/DistLock",
  "core/Entry",
  "core/LockError",
  "core/Op",
  "core/RangeView",
  "core/Session",
  "core/TempKey",
  "core/Watch"
])

/** Methods that mean the same for everything. */
const conventional = new Set(["toJSON", "toString"])

/** What the docstring of an export does not have. */
const missingIn = ({ doc, isFunction, members }) => {
  if (doc === undefined) return ["a docstring"]
  const asserts = /^```ts(?= norun$)|^```ts$[\s\S]* \/\/ => /m.test(doc.example)
  return [
    ...(doc.description === "" ? ["a summary"] : []),
    ...(/^\d+\.\d+\.\d+$/.test(doc.since) ? [] : ["`@since` with a version"]),
    ...(isFunction && doc.example === "" ? ["an `@example`"] : []),
    ...(doc.example !== "" && !asserts ? ["an assertion (`// => value`) in its `@example`"] : []),
    ...members.filter(({ doc, isFunction, name }) => isFunction && !doc?.description && !conventional.has(name))
      .map(({ name }) => `a docstring of its function \`${name}\``)
  ]
}

const missing = (module) => [
  ...(module.header?.description ? [] : [`${module.file} needs a header`]),
  ...module.exports.flatMap((one) =>
    missingIn(one).map((what) => `${one.file}: ${module.name}.${one.name} needs ${what}`)
  )
]

const checkComplete = (packages) => {
  const modules = packages.flatMap(({ modules }) => modules)
  const gaps = modules.filter(({ id }) => !incomplete.has(id)).flatMap(missing)
  const complete = modules.filter((module) => incomplete.has(module.id) && missing(module).length === 0)
  const unknown = [...incomplete].filter((id) => !modules.some((module) => module.id === id))
  const problems = [
    ...gaps,
    ...complete.map(({ id }) => `${id} is complete: remove it from \`incomplete\` in scripts/lib/apiReference.mjs`),
    ...unknown.map((id) => `${id} is no public module: remove it from \`incomplete\` in scripts/lib/apiReference.mjs`)
  ]
  if (problems.length > 0) throw new Stop(`The API reference is not complete:\n  ${problems.join("\n  ")}`)
}

/** Writes the pages below a folder of the project, formatted. */
const write = async (packages, target) => {
  for (const [path, text] of pages(packages)) {
    mkdirSync(dirname(join(root, target, path)), { recursive: true })
    writeFileSync(join(root, target, path), text)
  }
  const all = ["--includes-override", `${target}/${folder}/**/*.md`, "--excludes-override", "**/node_modules"]
  await capture("dprint", ["fmt", "--no-gitignore", ...all], { cwd: root })
}

const contentsOf = (base) =>
  new Map(
    globSync(`${folder}/**/*.md`, { cwd: join(root, base) }).map((path) => [
      path,
      readFileSync(join(root, base, path), "utf8")
    ])
  )

const generated = ".cache/api"

const generate = async () => {
  const packages = readApi()
  checkComplete(packages)
  rmSync(join(root, generated), { recursive: true, force: true })
  await write(packages, generated)
  return contentsOf(generated)
}

/** Fails if a public export is not documented, or if `docs/api` is not what its docstrings say. Needs the declarations of a build. */
export const checkApiReference = async () => {
  const expected = await generate()
  const actual = contentsOf(".")
  const outdated = [...new Set([...expected.keys(), ...actual.keys()])].filter((path) =>
    expected.get(path) !== actual.get(path)
  )
  if (outdated.length > 0) throw new Stop(`Not up to date (\`npm run api\` does it):\n  ${outdated.join("\n  ")}`)
}

/** Writes `docs/api`, and removes the pages of modules that are gone. */
export const writeApiReference = async () => {
  await generate()
  if (existsSync(join(root, folder))) rmSync(join(root, folder), { recursive: true })
  cpSync(join(root, generated, folder), join(root, folder), { recursive: true })
}
