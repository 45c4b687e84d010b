/**
 * Tests of the documentation: its TypeScript is type-checked, blocks marked `run` or `main` run, links and the source files
 * it names exist, the tests that `docs/recipe-scenarios.md` names exist, and the table of errors agrees with the errors.
 *
 * - A block marked `ts` is a module. Without imports of its own it is given those of every module of the project.
 * - `ts run` defines `program`, which must succeed on memory; `const x = ... // => value` in it is an assertion.
 * - `ts main` is a whole program. It runs as printed, in a process, and must print the `text` block that follows it.
 * - A block whose first line is `// name.ts` can be imported by the other blocks of its document.
 * - `ts nocheck` is for what is not code yet.
 * - After `<!-- checked -->` the code in the second column of a table is type-checked, as expressions.
 */
import { type Kv, KvError, LockError } from "@effect-kv/core"
import { MemoryLayer } from "@effect-kv/memory"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { execFile } from "node:child_process"
import { existsSync, globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"
import { compilerTimeout, typeCheck } from "./support/typeCheck.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))

/** Inside the workspace so that packages resolve; ignored by git, and deleted at the end. */
const folder = join(root, "examples", "build", `docs-${process.pid}`)

const documents = [
  "*.md",
  "docs/*.md",
  "docs/decisions/*.md",
  "packages/*/README.md",
  "examples/src/*/README.md",
  ".github/**/*.md"
]
  .flatMap((pattern) => globSync(pattern, { cwd: root }))
  .filter((document) => existsSync(join(root, document)))
  .sort()

interface Block {
  readonly document: string
  /** The line of its first line of code, counted from 1. */
  readonly line: number
  readonly flags: ReadonlyArray<string>
  readonly code: string
}

const read = (document: string): string => readFileSync(join(root, document), "utf8")

const lineAt = (text: string, index: number): number => text.slice(0, index).split("\n").length

const blocksOf = (document: string): ReadonlyArray<Block> => {
  const text = read(document)
  return [...text.matchAll(/^( *)```ts\b(.*)\n([\s\S]*?)^ *```$/gm)].map((match) => {
    const [, indent = "", flags = "", code = ""] = match
    return {
      document,
      line: lineAt(text, match.index) + 1,
      flags: flags.trim().split(/\s+/),
      code: code.replaceAll(new RegExp(`^${indent}`, "gm"), "")
    }
  })
}

/** The code in the second column of marked tables, as expressions. */
const expressionsOf = (document: string): ReadonlyArray<Block> => {
  const text = read(document)
  return [...text.matchAll(/<!-- checked -->\n+((?:\|.*\n)+)/g)].flatMap((match) => {
    const first = lineAt(text, match.index + match[0].indexOf("|"))
    return match[1]!.trimEnd().split("\n").slice(2).flatMap((row, index) => {
      const cell = row.split(" | ")[1] ?? ""
      const code = [...cell.matchAll(/`([^`]+)`/g)].map(([, expression]) => `void (${expression})\n`).join("")
      return code === "" ? [] : [{ document, line: first + 2 + index, flags: [], code }]
    })
  })
}

const checked = documents.flatMap((document) => [
  ...blocksOf(document).filter(({ flags }) => !flags.includes("nocheck")),
  ...expressionsOf(document)
])

const everything = [
  `import * as core from "@effect-kv/core"`,
  `import { Barrier, Compare, Counter, Deadline, DistLock, DistRwLock, DistSemaphore, Election, Entry, Fence, KeyRange, Kv, KvCollection, KvConfig, KvError, KvHealth, KvMetrics, KvUrl, Lease, Members, RangeView } from "@effect-kv/core"`,
  `import { Latch, LockError, Op, RunOnce, Sequence, SemaphoreError, Session, Slot, TempKey, Watch } from "@effect-kv/core"`,
  `import { Batching, Check, KvBackend, KvInternals, Namespace, SendControl, Tracing } from "@effect-kv/core/backend"`,
  `import { EtcdClient, EtcdLayer } from "@effect-kv/etcd"`,
  `import { MemoryLayer, MemoryStore } from "@effect-kv/memory"`,
  `import { KvConformance } from "@effect-kv/test-suite/conformance"`,
  `import { KvFaults } from "@effect-kv/test-suite/testing"`,
  `import { assert, it } from "@effect/vitest"`,
  `import { Config, ConfigProvider, Console, Context, Cron, DateTime, Deferred, Duration, Effect, Exit, Fiber, Layer, LayerRef, Option, Queue, Redacted, Ref } from "effect"`,
  `import { Request, RequestResolver, Result, Schedule, Schema, Scope, Stream } from "effect"`,
  `import { TestClock } from "effect/testing"`
].join("; ")

/** Placeholders for the rest of the reader's program, unless a block defines them. */
const assumed: Readonly<Record<string, string>> = {
  kv: "Kv.Kv",
  program: "Effect.Effect<void, KvError.KvError, Kv.Kv>",
  work: "Effect.Effect<void, never, Kv.Kv>",
  report: "Effect.Effect<string>",
  key: "string",
  value: "string",
  url: "string",
  callback: "(event: Watch.Event) => Effect.Effect<boolean>"
}

const preamble = ({ code, flags }: Block): string => {
  const own = /^import /m.test(code)
  const parts = own ? [] : [everything]
  if (!own && !flags.includes("run")) {
    for (const [name, type] of Object.entries(assumed)) {
      if (!new RegExp(`^(export )?const ${name}\\b`, "m").test(code)) parts.push(`declare const ${name}: ${type}`)
    }
  }
  if (flags.includes("run")) {
    parts.push(`import { deepStrictEqual } from "node:assert"`)
    // Not a type assertion, which would narrow the types in the rest of the block.
    parts.push("const $equal = (actual: unknown, expected: unknown): void => deepStrictEqual(actual, expected)")
    if (own && !/^import .*\bOption\b/m.test(code)) parts.push(`import { Option } from "effect"`)
  }
  return parts.join("; ")
}

/** Turns `const x = ... // => value` into an assertion. */
const withAssertions = (code: string): string => {
  let name = ""
  return code.split("\n").map((line) => {
    name = /\bconst (\w+) = /.exec(line)?.[1] ?? name
    return line.replace(/ \/\/ => (.+)$/, (_, expected: string) => `; $equal(${name}, ${expected})`)
  }).join("\n")
}

/** Lines of the file match lines of the document, because the preamble is on the fence's line. */
const moduleOf = (block: Block): string =>
  "\n".repeat(block.line - 2) + preamble(block) + "\n" +
  (block.flags.includes("run") ? withAssertions(block.code) : block.code) +
  (block.flags.includes("run") && !/^export const program\b/m.test(block.code) ? "export { program }\n" : "") +
  "export {}\n"

const folderOf = (document: string): string => join(folder, document.replaceAll(/[/.]/g, "_"))

const fileOf = (block: Block): string => join(folderOf(block.document), `line-${block.line}.ts`)

const nameOf = (block: Block): string | undefined => /^\/\/ (\w+\.ts)\n/.exec(block.code)?.[1]

const write = (): void => {
  for (const block of checked) {
    mkdirSync(dirname(fileOf(block)), { recursive: true })
    writeFileSync(fileOf(block), moduleOf(block))
    const name = nameOf(block)
    if (name !== undefined) writeFileSync(join(folderOf(block.document), name), moduleOf(block))
  }
}

let complaints: ReadonlyArray<string> = []

beforeAll(() => {
  write()
  complaints = typeCheck(folder)
}, compilerTimeout)

afterAll(() => rmSync(folder, { recursive: true, force: true }))

const isProgram = (u: unknown): u is Effect.Effect<unknown, unknown, Kv.Kv | Scope.Scope> => Effect.isEffect(u)

const run = Effect.fnUntraced(function*(block: Block) {
  const module: { readonly program?: unknown } = yield* Effect.promise(() => import(pathToFileURL(fileOf(block)).href))
  if (!isProgram(module.program)) return assert.fail("it does not define `program`")
  yield* Effect.provide(Effect.scoped(module.program), [MemoryLayer.layer, Logger.layer([])])
})

describe("the code of the documentation", () => {
  it("is found in the documents", () => assert.isAbove(checked.length, 40))

  for (const document of documents) {
    it(`${document} type-checks`, () => {
      const mark = folderOf(document).slice(folder.length + 1)
      assert.deepStrictEqual(complaints.filter((complaint) => complaint.includes(`/${mark}/`)), [])
    })
  }

  it("has no errors outside of the blocks", () => {
    assert.deepStrictEqual(
      complaints.filter((complaint) => /^\S/.test(complaint) && !/\bline-\d+\.ts/.test(complaint)),
      []
    )
  })

  for (const block of checked.filter(({ flags }) => flags.includes("run"))) {
    it.live(`${block.document}, line ${block.line}, runs on memory`, () => run(block))
  }
})

/** What the program of a `main` block prints. */
const printed = (block: Block): Effect.Effect<string, Error> =>
  Effect.callback((resume) => {
    const child = execFile(
      process.execPath,
      [fileOf(block)],
      (error, output, errors) =>
        resume(error === null ? Effect.succeed(output) : Effect.fail(new Error(output + errors)))
    )
    return Effect.sync(() => child.kill("SIGKILL"))
  })

const textAfter = (block: Block): string | undefined =>
  /^```text\n([\s\S]*?)^```$/m.exec(read(block.document).split("\n").slice(block.line).join("\n"))?.[1]

describe("the programs of the documentation", () => {
  for (const block of checked.filter(({ flags }) => flags.includes("main"))) {
    it.live(`${block.document}, line ${block.line}, prints what the document says`, () =>
      Effect.gen(function*() {
        assert.strictEqual(yield* printed(block), textAfter(block))
      }))
  }
})

/** The modules and functions that code without imports uses, other than in comments. */
const namesUsed = (code: string): ReadonlyArray<string> => {
  const names = [...everything.matchAll(/import \{ (.+?) \}/g)].flatMap(([, list = ""]) => list.split(", "))
  const withoutComments = code.replaceAll(/\/\/.*$/gm, "")
  return names.filter((name) => new RegExp(`(?<![.\\w])${name}\\.\\w`).test(withoutComments))
}

for (const document of documents.filter((document) => document.startsWith("docs/"))) {
  const [first, ...others] = blocksOf(document)
  if (first === undefined || !/^(import \{[^}]*\} from .*\n)+$/.test(first.code)) continue
  it(`the imports at the beginning of ${document} are those that its code needs`, () => {
    const code = others.filter(({ code }) => !/^import /m.test(code)).map(({ code }) => code).join("\n")
    for (const name of namesUsed(code)) assert.match(first.code, new RegExp(`\\b${name}\\b`))
  })
}

it("the README is short enough to read in one go", () => {
  assert.isAtMost(read("README.md").trimEnd().split("\n").length, 120)
})

const message = "why"

const reasons: Readonly<Record<KvError.Reason["_tag"], KvError.Reason>> = {
  Unavailable: new KvError.Unavailable({ message }),
  DeadlineExceeded: new KvError.DeadlineExceeded({ message }),
  Unauthenticated: new KvError.Unauthenticated({ message }),
  PermissionDenied: new KvError.PermissionDenied({ message }),
  Compacted: new KvError.Compacted({ compactRevision: Option.some(1n) }),
  FutureRevision: new KvError.FutureRevision({ message }),
  LeaseNotFound: new KvError.LeaseNotFound({ message }),
  LeaseExists: new KvError.LeaseExists({ message }),
  InvalidRequest: new KvError.InvalidRequest({ message }),
  RequestTooLarge: new KvError.RequestTooLarge({ message }),
  QuotaExceeded: new KvError.QuotaExceeded({ message }),
  Closed: new KvError.Closed({ message }),
  Indeterminate: new KvError.Indeterminate({ message }),
  StoreReplaced: new KvError.StoreReplaced({ message, outcome: "Unknown" }),
  LockLost: new LockError.LockLost({ lock: "a", token: 1n, reason: "why" })
}

it("the table of errors in docs/contract.md lists every reason with its outcome and whether a retry is safe", () => {
  const table = [...read("docs/contract.md").matchAll(/^\| `(\w+)` +\| (.+) +\|$/gm)]
  const said = table.filter(([, tag = ""]) => tag in reasons).map(([, tag, rest]) => {
    const cells = rest!.split(" | ").map((cell) => cell.trim())
    return [
      tag,
      cells.find((cell) => /^(not applied|unknown)$/.test(cell)),
      cells.find((cell) => /^(yes|no)$/.test(cell))
    ]
  })
  const expected = Object.values(reasons).map((reason) => [
    reason._tag,
    reason.outcome === "NotApplied" ? "not applied" : "unknown",
    reason.isRetryable ? "yes" : "no"
  ])
  assert.sameDeepMembers(said, expected)
})

/** The anchors of a document's headings, as GitHub makes them. */
const anchorsOf = (document: string): ReadonlyArray<string> =>
  [...read(document).matchAll(/^#+ (.+)$/gm)].map(([, heading]) =>
    heading!.toLowerCase().replaceAll(/[^\w\- ]/g, "").replaceAll(" ", "-")
  )

const leadsSomewhere = (document: string, link: string): boolean => {
  const [path = "", anchor] = link.split("#")
  const target = path === "" ? document : join(dirname(document), path)
  return existsSync(join(root, target)) && (anchor === undefined || anchorsOf(target).includes(anchor))
}

describe("links", () => {
  for (const document of documents) {
    it(`the links in ${document} have existing targets`, () => {
      const links = [...read(document).matchAll(/\]\((?!https?:)([^)\s]+)\)/g)].map(([, link]) => link!)
      assert.deepStrictEqual(links.filter((link) => !leadsSomewhere(document, link)), [])
    })
  }
})

/** A path from the root, such as the test in a command that the reader is to run. */
const sourceFile = /\b(?:benchmarks|chaos|docs|examples|interop|packages|scripts)\/[\w./-]+\.(?:go|json|md|mjs|ts)\b/g

describe("source files", () => {
  for (const document of documents) {
    it(`the source files that ${document} names exist`, () => {
      // Code blocks are type-checked, links are checked above; what is left is prose, tables and commands.
      const paths = [...read(document).replaceAll(/\]\([^)]*\)/g, "").matchAll(sourceFile)].map(([path]) => path)
      assert.deepStrictEqual(paths.filter((path) => !existsSync(join(root, path))), [])
    })
  }
})

describe("tests", () => {
  it("that docs/recipe-scenarios.md names exist, with these titles", () => {
    const text = read("docs/recipe-scenarios.md")
    const files = new Map([...text.matchAll(/^\[([^\]]+)\]: (\S+)$/gm)].map(([, name, path]) => [name, path!]))
    const named = [...text.matchAll(/"([^"]+)" \(\[([^\]]+)\]\)/g)]
    assert.isAbove(named.length, 70)
    const isMissing = (title: string, file: string) => !read(join("docs", files.get(file) ?? file)).includes(title)
    assert.deepStrictEqual(named.filter(([, title, file]) => isMissing(title!, file!)).map(([test]) => test), [])
  })
})
