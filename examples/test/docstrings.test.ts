/**
 * Examples in docstrings: each fenced block of TypeScript in the sources of the packages is a module that must type-check
 * and run.
 *
 * - A block is complete: it imports what it uses.
 * - `// => value` asserts the value of the constant or the expression before it.
 * - A block that defines `program` runs it on memory, in a scope of its own.
 * - The address `http://127.0.0.1:2379` stands for an etcd server that the test starts.
 * - `ts norun` marks a block that is type-checked only, such as one that registers tests; `ts nocheck` marks one that is
 *   not a module.
 */
import type { Kv } from "@effect-kv/core"
import { MemoryLayer } from "@effect-kv/memory"
import { EtcdCluster } from "@effect-kv/test-suite/verification"
import { afterAll, assert, beforeAll, describe, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import type * as Scope from "effect/Scope"
import { globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"
import { type ESTree, parseSync } from "vite"
import { compilerTimeout, typeCheck } from "./support/typeCheck.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))

/** Inside the workspace, for the packages to resolve; ignored by git, and removed in the end. */
const folder = join(root, "examples", "build", `docstrings-${process.pid}`)

interface Example {
  readonly source: string
  /** The line of its first line of code, counted from 1. */
  readonly line: number
  readonly flag: string
  readonly code: string
}

const examplesOf = (source: string): ReadonlyArray<Example> => {
  const text = readFileSync(join(root, source), "utf8")
  return [...text.matchAll(/^ *\* ```ts\b(.*)\n((?: *\*.*\n)*?) *\* ```$/gm)].map((match) => ({
    source,
    line: text.slice(0, match.index).split("\n").length + 1,
    flag: match[1]!.trim(),
    code: match[2]!.replaceAll(/^ *\* ?/gm, "")
  }))
}

const sources = globSync("packages/*/src/**/*.ts", { cwd: root }).sort()

const examples = sources.flatMap(examplesOf).filter(({ flag }) => flag !== "nocheck")

const serverAddress = "http://127.0.0.1:2379"

const serverVariable = "EFFECT_KV_DOCSTRINGS_ETCD"

const isRun = ({ flag }: Example): boolean => flag !== "norun"

const needsServer = ({ code }: Example): boolean => code.includes(`"${serverAddress}"`)

/** Every node of a syntax tree that can stand alone on a line. */
const statementsOf = (code: string): ReadonlyArray<ESTree.Node> => {
  const found: Array<ESTree.Node> = []
  const visit = (value: unknown): void => {
    if (Array.isArray(value)) return value.forEach(visit)
    if (typeof value !== "object" || value === null) return
    const node = value as ESTree.Node
    if (node.type === "VariableDeclaration" || node.type === "ExpressionStatement") found.push(node)
    Object.values(value).forEach(visit)
  }
  visit(parseSync("example.ts", code).program)
  return found
}

/** Turns each `// => value` into an assertion about the statement that ends on its line. */
const withAssertions = (code: string): string => {
  const statements = statementsOf(code)
  let result = code
  for (const comment of parseSync("example.ts", code).comments.toReversed()) {
    if (!comment.value.startsWith(" => ")) continue
    const expected = comment.value.slice(" => ".length)
    const statement = statements.findLast(({ end }) =>
      end <= comment.start && code.slice(end, comment.start).trim() === ""
    )
    if (statement?.type === "ExpressionStatement") {
      const actual = code.slice(statement.start, statement.end)
      result = `${result.slice(0, statement.start)};$equal((${actual}), ${expected});${result.slice(comment.end)}`
    } else if (statement?.type === "VariableDeclaration" && statement.declarations[0]?.id.type === "Identifier") {
      result = `${result.slice(0, comment.start)};$equal(${statement.declarations[0].id.name}, ${expected});` +
        result.slice(comment.end)
    } else {
      throw new Error(`"//${comment.value}" follows neither a constant nor an expression`)
    }
  }
  return result
}

const preamble = ({ code }: Example): string =>
  [
    `import { deepStrictEqual } from "node:assert"`,
    // Not an assertion of types: that would narrow the type for the rest of the block.
    "const $equal = (actual: unknown, expected: unknown): void => deepStrictEqual(actual, expected)",
    ...(/^import .*\bOption\b/m.test(code) ? [] : [`import { Option } from "effect"`])
  ].join("; ")

/** The lines of the file are the lines of the source. The preamble shares the fence's. */
const moduleOf = (example: Example): string =>
  "\n".repeat(example.line - 2) + preamble(example) + "\n" +
  withAssertions(example.code).replaceAll(`"${serverAddress}"`, `process.env["${serverVariable}"]!`) +
  (/^const program\b/m.test(example.code) ? "export { program }\n" : "export {}\n")

const folderOf = (source: string): string => source.replaceAll(/[/.]/g, "_")

const fileOf = (example: Example): string => join(folder, folderOf(example.source), `line-${example.line}.ts`)

let complaints: ReadonlyArray<string> = []

beforeAll(() => {
  for (const example of examples) {
    mkdirSync(dirname(fileOf(example)), { recursive: true })
    writeFileSync(fileOf(example), moduleOf(example))
  }
  complaints = typeCheck(folder)
}, compilerTimeout)

afterAll(() => {
  rmSync(folder, { recursive: true, force: true })
  delete process.env[serverVariable]
})

const isProgram = (u: unknown): u is Effect.Effect<unknown, unknown, Kv.Kv | Scope.Scope> => Effect.isEffect(u)

const run = Effect.fnUntraced(function*(example: Example) {
  const url = pathToFileURL(fileOf(example)).href
  const module: { readonly program?: unknown } = yield* Effect.promise(() => import(url))
  if (isProgram(module.program)) {
    yield* Effect.provide(Effect.scoped(module.program), [MemoryLayer.layer, Logger.layer([])])
  }
})

const titleOf = ({ line, source }: Example): string => `The example at ${source}:${line} runs`

describe("examples in docstrings", () => {
  for (const source of new Set(examples.map((example) => example.source))) {
    it(`The examples of ${source} type-check`, () => {
      assert.deepStrictEqual(complaints.filter((complaint) => complaint.includes(`/${folderOf(source)}/`)), [])
    })
  }

  it("The compiler reports nothing outside the examples", () => {
    assert.deepStrictEqual(
      complaints.filter((complaint) => /^\S/.test(complaint) && !/\bline-\d+\.ts/.test(complaint)),
      []
    )
  })

  for (const example of examples.filter((example) => isRun(example) && !needsServer(example))) {
    it.live(titleOf(example), () => run(example))
  }

  layer(EtcdCluster.layer(), { excludeTestServices: true, timeout: "1 minute" })("on an etcd server", (it) => {
    for (const example of examples.filter((example) => isRun(example) && needsServer(example))) {
      it.effect(titleOf(example), () =>
        Effect.gen(function*() {
          const cluster = yield* EtcdCluster.EtcdCluster
          process.env[serverVariable] = cluster.endpoints[0]!
          yield* run(example)
        }))
    }
  })
})
