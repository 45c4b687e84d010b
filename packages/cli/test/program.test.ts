/**
 * What needs no store: help, completions, exit codes, wrong arguments, and the time to start.
 */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { execFileSync } from "node:child_process"
import { readFileSync } from "node:fs"
import * as exitCodes from "../src/exitCodes.ts"
import { version } from "../src/version.ts"
import * as inProcess from "./support/inProcess.ts"
import * as program from "./support/program.ts"

const run = Effect.fnUntraced(function*(args: ReadonlyArray<string>, env: Record<string, string> = {}) {
  const running = yield* program.start(process.execPath, [yield* program.Program, ...args], env)
  return { code: yield* running.end, output: running.output() }
})

/** A process of Node with this environment stays when its program has ended, until it is killed. */
const staying = { NODE_OPTIONS: "--import=data:text/javascript,process.exit=()=>setInterval(()=>{},1e6)" }

const file = (path: string) => readFileSync(new URL(path, import.meta.url), "utf8")

layer(program.layer, { excludeTestServices: true, timeout: "60 seconds" })("the program", (it) => {
  it.effect("The overview of all commands fits a screen of 24 lines and 80 columns", () =>
    Effect.gen(function*() {
      const { code, output } = yield* run(["--help"])
      assert.strictEqual(code, 0)
      const lines = output.trimEnd().split("\n")
      assert.isAtMost(lines.length, 24)
      for (const line of lines) assert.isAtMost(line.length, 80, line)
    }))

  it.effect("Without a command, the overview is written to standard error", () =>
    Effect.gen(function*() {
      const { code, output } = yield* run([])
      assert.strictEqual(code, exitCodes.usage)
      assert.match(output, /Usage: effect-kv <command>/)
    }))

  it.effect("The version is the one of the package", () =>
    Effect.gen(function*() {
      const manifest: unknown = JSON.parse(file("../package.json"))
      assert.deepInclude(manifest, { version })
      assert.deepStrictEqual(yield* run(["--version"]), { code: 0, output: `effect-kv ${version}\n` })
    }))

  it.effect("Completions name the commands and their flags", () =>
    Effect.gen(function*() {
      for (const shell of ["zsh", "fish", "powershell"]) {
        const { code, output } = yield* run(["--completions", shell])
        assert.strictEqual(code, 0)
        for (const word of ["effect-kv", "semaphore", "acquire-timeout"]) assert.include(output, word)
      }
    }))

  const completed: ReadonlyArray<readonly [typed: string, completed: string]> = [
    ["effect-kv se", "semaphore"],
    ["effect-kv lock --a", "--acquire-timeout"],
    ["effect-kv lock --ur", "--url"]
  ]
  for (const [typed, word] of completed) {
    it.effect(`bash completes "${typed}" to ${word}`, () =>
      Effect.gen(function*() {
        const { output } = yield* run(["--completions", "bash"])
        const words = typed.split(" ")
        const script = `${output}
          COMP_WORDS=(${words.join(" ")}); COMP_CWORD=${
          words.length - 1
        }; COMP_LINE="${typed}"; COMP_POINT=${typed.length}
          $(complete -p effect-kv | sed "s/.*-F \\([^ ]*\\).*/\\1/") effect-kv
          echo "\${COMPREPLY[*]}"`
        assert.include(execFileSync("bash", { input: script, encoding: "utf8" }).trim().split(" "), word)
      }))
  }

  it.effect("The program starts within 0.4 seconds of CPU time", () =>
    Effect.gen(function*() {
      const command = `'${process.execPath}' '${yield* program.Program}' --help >/dev/null`
      const seconds = Array.from({ length: 3 }, () => {
        const output = execFileSync("sh", ["-c", `${command}; times`], { encoding: "utf8" })
        // The second line is of the children. On a free machine the clock shows about the same; here other tests run.
        const [, user, system] = /\n0m([\d.]+)s 0m([\d.]+)s/.exec(output) ?? []
        return Number(user) + Number(system)
      })
      assert.isBelow(Math.min(...seconds), 0.4)
    }))

  const wrong: ReadonlyArray<readonly [string, ReadonlyArray<string>, number, RegExp]> = [
    [
      "no store is named",
      ["lock", "n", "--", "true"],
      exitCodes.configuration,
      /no store is named: give --url or set KV_URL/
    ],
    [
      "the URL is none",
      ["--url", "etcd.local", "lock", "n", "--", "true"],
      exitCodes.configuration,
      /must begin with a scheme, one of http:, https:, mem:, postgres:, postgresql:/
    ],
    ["the URL has no port", ["--url", "http://etcd.local", "lock", "n", "--", "true"], exitCodes.configuration, /port/],
    [
      "a user has no password",
      ["--url", "http://h:1", "--user", "u", "lock", "n", "--", "true"],
      exitCodes.configuration,
      /set ETCD_PASSWORD/
    ],
    ["nothing follows the name", ["lock", "n"], exitCodes.usage, /the command to run must follow --/],
    ["the name is missing", ["lock", "--", "rm", "-rf", "x"], exitCodes.usage, /the name is missing before --/],
    ["there are two names", ["lock", "a", "b", "--", "true"], exitCodes.usage, /unexpected argument "b"/],
    [
      "a duration is none",
      ["lock", "n", "--ttl", "soon", "--", "true"],
      exitCodes.usage,
      /--ttl: "soon"\. Expected a duration such as 500ms, 10s, 5m or 2h/
    ],
    [
      "the TTL is 0",
      ["--url", "mem:", "lock", "n", "--ttl", "0", "--", "true"],
      exitCodes.usage,
      /ttl must be a duration of more than 0/
    ],
    [
      "a flag is unknown",
      ["lock", "n", "--tll", "5s", "--", "true"],
      exitCodes.usage,
      /Unrecognized flag: --tll[^]*--ttl/
    ],
    ["a command is unknown", ["lokc"], exitCodes.usage, /Unknown subcommand "lokc"[^]*lock/],
    [
      "the store does not respond",
      ["--url", "http://127.0.0.1:1", "--timeout", "300ms", "lock", "n", "--", "true"],
      exitCodes.unavailable,
      /effect-kv: an endpoint is down \(endpoint: http:\/\/127\.0\.0\.1:1, reason: .*ECONNREFUSED[^]*effect-kv: Unavailable/
    ],
    [
      "the store does not respond while it waits",
      ["--url", "http://127.0.0.1:1", "lock", "n", "--acquire-timeout", "300ms", "--", "true"],
      exitCodes.unavailable,
      /could not be acquired within .+; the store could not be reached/
    ],
    [
      "the command does not exist",
      ["--url", "mem:", "lock", "n", "--", "no-such-command"],
      exitCodes.notFound,
      /"no-such-command" was not found/
    ],
    [
      "the command cannot be executed",
      ["--url", "mem:", "lock", "n", "--", "/dev/null"],
      exitCodes.notExecutable,
      /could not be executed/
    ]
  ]
  for (const [what, args, code, message] of wrong) {
    it.effect(`When ${what}, the message says so and the exit code is ${code}`, () =>
      Effect.gen(function*() {
        const result = yield* inProcess.run(args)
        assert.match(result.err, message)
        assert.strictEqual(result.code, code)
        assert.notInclude(result.err, "fault of effect-kv")
        assert.strictEqual(result.out, "")
      }))
  }

  it.effect("With --json, wrong arguments are an error in JSON, except those of the command that is run", () =>
    Effect.gen(function*() {
      for (const args of [["get", "--json"], ["nope", "--json"], ["get", "k", "--revision", "x", "--json"]]) {
        const { code, err, out } = yield* inProcess.run(args)
        assert.deepInclude(JSON.parse(err), { error: "UsageError", exitCode: exitCodes.usage })
        assert.deepStrictEqual({ code, out }, { code: exitCodes.usage, out: "" })
      }
      const ofCommand = yield* inProcess.run(["lock", "n", "--ttl", "x", "--", "true", "--json"])
      assert.match(ofCommand.err, /^effect-kv: Invalid value for flag --ttl/)
    }))

  it.effect("A password in --url is not among the arguments that other users see", () =>
    Effect.gen(function*() {
      for (const url of [["--url", "http://bob:s3c/r3t@h:1"], ["--url=http://bob:s3c@r3t@h:1"]]) {
        const args = [yield* program.Program, ...url, "lock", "n", "--", "true"]
        const running = yield* program.start(process.execPath, args, staying)
        const seen = Effect.sync(() =>
          execFileSync("ps", ["-o", "args=", "-p", `${running.pid}`], { encoding: "utf8" })
        )
        // At first it has the arguments of this process, then those that it was given.
        const title = yield* Effect.repeat(seen, { until: (title) => title.startsWith("effect-kv") })
        assert.match(title, /^effect-kv --url[ =]http:\/\/h:1 lock n -- true\n/)
      }
    }))

  it.effect("An exit code of the command line is documented", () =>
    Effect.sync(() => {
      const documented = [...file("../../../docs/command-line.md").matchAll(/^\| (\d+)\b/gm)].map(([, code]) =>
        Number(code)
      )
      const defined = Object.values(exitCodes).filter((value) => typeof value === "number")
      assert.sameMembers(documented, defined)
    }))
})
