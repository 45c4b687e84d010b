/**
 * Commands that run another one, on etcd and without a terminal, as cron and systemd start them.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import { EtcdBinaries, EtcdCluster } from "@effect-kv/test-suite/verification"
import { assert, layer } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { effectKv, finished, isAlive, keys, layer as server, remove, untilKeys } from "./support/server.ts"

const shell = (script: string) => ["--", "sh", "-c", script]

const untilGone = (pid: number) =>
  Effect.repeat(Effect.sync(() => isAlive(pid)), { until: (is) => !is, schedule: Schedule.spaced("20 millis") })

layer(server, { excludeTestServices: true, timeout: "60 seconds" })("without a terminal", (it) => {
  const commands: ReadonlyArray<readonly [command: string, args: ReadonlyArray<string>, key: RegExp]> = [
    ["lock", [], /^app\/held-by-lock\/[0-9a-f]+$/],
    ["elect", [], /^app\/held-by-elect\/[0-9a-f]+$/],
    ["semaphore", ["--permits", "2"], /^app\/held-by-semaphore\/permits\/[0-9a-f]+$/],
    ["once", [], /^app\/held-by-once\/once\/run$/]
  ]
  for (const [command, args, key] of commands) {
    it.effect(`The command of ${command} gets the name, key and token, and its exit code is passed on`, () =>
      Effect.gen(function*() {
        const name = `held-by-${command}`
        const script = `echo "name=$EFFECT_KV_NAME key=$EFFECT_KV_KEY token=$EFFECT_KV_TOKEN;"; exit 7`
        const { code, output } = yield* finished([command, name, ...args, "--prefix", "app/", ...shell(script)])
        assert.strictEqual(code, 7, output)
        const [, heldName, heldKey, token] = /name=(.*) key=(.*) token=(.*);/.exec(output) ?? []
        assert.strictEqual(heldName, name)
        assert.match(heldKey ?? "", key)
        assert.isAbove(Number(token), 0)
      }))
  }

  it.effect("With its key and token, a command makes a write conditional on the lock being held", () =>
    Effect.gen(function*() {
      const { etcdctl } = yield* EtcdBinaries.current
      const write = `printf 'c("%s") = "%s"\\n\\nput fenced/value %s\\n\\n\\n' "$EFFECT_KV_KEY" "$EFFECT_KV_TOKEN"`
      const script = `${write} 1 | ${etcdctl} txn; ${etcdctl} del "$EFFECT_KV_KEY"; ${write} 2 | ${etcdctl} txn`
      const { results } = yield* finished(["lock", "fenced", "--grace", "10s", ...shell(`trap "" TERM; ${script}`)])
      assert.match(results, /SUCCESS[^]*FAILURE/)
      assert.deepStrictEqual(yield* keys("fenced/"), ["fenced/value"])
    }))

  it.effect("When the lock is lost, the command ends with all that it started", () =>
    Effect.gen(function*() {
      const running = yield* effectKv(["lock", "tree", ...shell(`tail -f /dev/null & echo "pid $!"; wait; exit 0`)])
      const [, pid] = yield* running.until(/pid (\d+)/)
      yield* remove("tree/")
      assert.strictEqual(yield* running.end, 76)
      yield* untilGone(Number(pid))
      assert.match(running.output(), /effect-kv: the lock "tree" \(token \d+\) was lost/)
    }))

  it.effect("A command that ignores SIGTERM is gone when the store has been away for the TTL", () =>
    Effect.gen(function*() {
      const cluster = yield* EtcdCluster.make()
      const stubborn = `trap "" TERM; echo "pid $$"; exec tail -f /dev/null`
      const env = { KV_URL: cluster.endpoints[0]! }
      const running = yield* effectKv(["lock", "away", "--ttl", "2s", ...shell(stubborn)], env)
      const [, pid] = yield* running.until(/pid (\d+)/)
      yield* cluster.killAll
      const [duration, code] = yield* Effect.timed(running.end)
      assert.strictEqual(code, 76)
      assert.isFalse(isAlive(Number(pid)))
      assert.match(running.output(), /the command has not ended: SIGKILL[^]*the lock "away" \(token \d+\) was lost/)
      // The last renewal was before the store went away, so its lease ends within 2 seconds. The rest is for a busy machine.
      assert.isBelow(Duration.toMillis(duration), 2_000 + 1_500)
    }))

  it.effect("SIGTERM is forwarded, and the lock is held until all that the command started has ended", () =>
    Effect.gen(function*() {
      // The shell ends at once, what it runs does not. A shell gives what it runs in the background no standard input.
      const slow = `sh -c 'trap "echo ending" TERM; echo ready; until read line; do :; done'`
      const running = yield* effectKv(["lock", "forwarded", ...shell(`exec 3<&0; ${slow} <&3 & wait`)])
      yield* running.until(/ready/)
      yield* running.signal("SIGTERM")
      yield* running.until(/ending/)
      assert.lengthOf(yield* keys("forwarded/"), 1)
      yield* running.type("\n")
      assert.strictEqual(yield* running.end, 143)
      assert.deepStrictEqual(yield* keys("forwarded/"), [])
    }))

  it.effect("A command that runs for longer than --max-hold is ended, and the lock is released", () =>
    Effect.gen(function*() {
      const { code, output } = yield* finished(["lock", "long", "--max-hold", "300ms", "--", "tail", "-f", "/dev/null"])
      assert.strictEqual(code, 124)
      assert.match(output, /the lock "long" \(token \d+\) was held for longer than 300ms/)
      assert.deepStrictEqual(yield* keys("long/"), [])
    }))

  it.effect("A wait for a lock ends after --acquire-timeout, with an exit code of its own", () =>
    Effect.gen(function*() {
      const holder = yield* effectKv(["lock", "busy", "--", "sh", "-c", "echo holds; read line"])
      yield* holder.until(/holds/)
      for (const timeout of ["0", "200ms"]) {
        const { code, output } = yield* finished(["lock", "busy", "--json", "--acquire-timeout", timeout, "--", "true"])
        assert.strictEqual(code, 75)
        assert.match(output, /gave up the lock "busy", held by sh on \S+, pid \d+.* \(token \d+\)/)
        assert.deepInclude(JSON.parse(output.trim().split("\n").at(-1)!), { error: "LockTimeout", exitCode: 75 })
      }
      assert.lengthOf(yield* keys("busy/"), 1)
      yield* holder.type("\n")
      assert.strictEqual(yield* holder.end, 0)
      assert.strictEqual((yield* finished(["lock", "busy", "--acquire-timeout", "0", "--", "true"])).code, 0)
    }))

  it.effect("A waiter that is removed from the queue says that the command did not run, and exits as if not acquired", () =>
    Effect.gen(function*() {
      const holder = yield* effectKv(["lock", "left", "--", "sh", "-c", "echo holds; read line"])
      yield* holder.until(/holds/)
      const waiter = yield* effectKv(["lock", "left", "--", "echo", "ran"])
      yield* waiter.until(/waiting for the lock "left"/)
      const kv = yield* Kv.Kv
      const { entries } = yield* kv.range(KeyRange.prefix("left/"))
      const last = entries.reduce((a, b) => a.createRevision > b.createRevision ? a : b)
      yield* kv.delete(last.key)
      assert.strictEqual(yield* waiter.end, 75)
      assert.match(waiter.output(), /place in the queue was lost, and the command did not run: the lock "left"/)
      assert.strictEqual(waiter.results(), "")
    }))

  it.effect("A command runs once for a key: a failure is repeated, a success is not", () =>
    Effect.gen(function*() {
      assert.strictEqual((yield* finished(["once", "migrate", "--", "false"])).code, 1)
      const done = yield* finished(["once", "migrate", "--", "echo", "migrated"])
      assert.deepInclude(done, { code: 0, results: "migrated\n" })
      const again = yield* finished(["once", "migrate", "--", "echo", "migrated"])
      assert.deepInclude(again, { code: 0, results: "" })
      assert.match(again.output, /effect-kv: "migrate" was done before; nothing to do/)
    }))

  it.effect("A semaphore runs as many commands at a time as it has permits", () =>
    Effect.gen(function*() {
      const args = ["semaphore", "two", "--permits", "2", "--", "sh", "-c", "echo holds; read line"]
      const holders = [yield* effectKv(args), yield* effectKv(args)]
      for (const holder of holders) yield* holder.until(/holds/)
      const third = yield* effectKv(args)
      yield* third.until(/waiting for a permit of "two", held by sh on .+ \(token \d+\); sh on .+ \(token \d+\)/)
      yield* holders[0]!.type("\n")
      yield* third.until(/holds/)
      for (const running of [holders[1]!, third]) {
        yield* running.type("\n")
        assert.strictEqual(yield* running.end, 0)
      }
      const { code, output } = yield* finished(["semaphore", "two", "--permits", "3", "--", "true"])
      assert.strictEqual(code, 78)
      assert.match(output, /has 2 permits in the store, but this client is configured with 3/)
    }))

  it.effect("One leader at a time runs its command, and observers see its value", () =>
    Effect.gen(function*() {
      const args = ["elect", "billing", "--value", "10.0.0.7", "--", "sh", "-c", "echo leads; read line"]
      const leader = yield* effectKv(args)
      yield* leader.until(/leads/)
      const candidate = yield* effectKv(args)
      yield* candidate.until(/waiting for the leadership of "billing", held by 10\.0\.0\.7 \(token \d+\)/)
      yield* leader.type("\n")
      yield* candidate.until(/leads/)
      yield* untilKeys("billing/", 1)
      yield* candidate.type("\n")
      assert.strictEqual(yield* candidate.end, 0)
    }))
})
