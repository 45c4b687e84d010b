/**
 * Commands that run another one, in a real terminal.
 */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { ctrlC } from "./support/program.ts"
import {
  effectKvInTerminal,
  etcdctlInTerminal,
  isAlive,
  keys,
  layer as server,
  remove,
  untilKeys
} from "./support/server.ts"

/** Says which process it is, ignores SIGTERM, and runs until it is killed. */
const stubborn = `sh -c 'trap "" TERM; echo "pid $$"; exec tail -f /dev/null'`

/** Runs until a line is typed. `etcdctl lock` gives its command no standard input. */
const untilTyped = (name: string) => `sh -c 'echo ${name} holds; read line </dev/tty; echo ${name} ends'`

layer(server, { excludeTestServices: true, timeout: "60 seconds" })("in a terminal", (it) => {
  it.effect("A command that ignores SIGTERM is killed when its lock is lost", () =>
    Effect.gen(function*() {
      const terminal = yield* effectKvInTerminal(`lock stubborn -- ${stubborn}`)
      const [, pid] = yield* terminal.until(/pid (\d+)/)
      yield* remove("stubborn/")
      yield* terminal.until(/SIGTERM to the command[^]*the command has not ended: SIGKILL/)
      yield* terminal.until(/effect-kv: the lock "stubborn" \(token \d+\) was lost/)
      assert.strictEqual(yield* terminal.end, 76)
      assert.isFalse(isAlive(Number(pid)))
    }))

  it.effect("Two terminals and etcdctl lock contend for a lock, and acquire it one after the other", () =>
    Effect.gen(function*() {
      const first = yield* effectKvInTerminal(`lock contended -- ${untilTyped("first")}`)
      yield* first.until(/first holds/)
      const second = yield* etcdctlInTerminal(`lock contended -- ${untilTyped("second")}`)
      yield* untilKeys("contended/", 2)
      const third = yield* effectKvInTerminal(`lock contended -- ${untilTyped("third")}`)
      yield* third.until(/waiting for the lock "contended", held by sh on \S+, pid \d+, since \S+Z \(token \d+\)/)
      assert.lengthOf(yield* keys("contended/"), 3)
      yield* first.type("\n")
      assert.strictEqual(yield* first.end, 0)
      yield* second.until(/second holds/)
      assert.notInclude(third.output(), "third holds")
      yield* second.type("\n")
      assert.strictEqual(yield* second.end, 0)
      yield* third.until(/acquired the lock "contended" after/)
      yield* third.until(/third holds/)
      yield* third.type("\n")
      assert.strictEqual(yield* third.end, 0)
      assert.deepStrictEqual(yield* keys("contended/"), [])
    }))

  it.effect("Ctrl-C reaches the command once, and the lock is held until the command has ended", () =>
    Effect.gen(function*() {
      const terminal = yield* effectKvInTerminal(
        `lock interrupted -- sh -c 'trap "echo interrupted" INT; echo holds; until read line; do :; done; exit 3'`
      )
      yield* terminal.until(/holds/)
      yield* terminal.type(ctrlC)
      yield* terminal.until(/interrupted/)
      assert.lengthOf(yield* keys("interrupted/"), 1)
      yield* terminal.type("\n")
      assert.strictEqual(yield* terminal.end, 3)
      assert.lengthOf(terminal.output().match(/interrupted/g) ?? [], 1)
      assert.deepStrictEqual(yield* keys("interrupted/"), [])
    }))

  it.effect("Ctrl-C removes a waiting command from the queue", () =>
    Effect.gen(function*() {
      const holder = yield* effectKvInTerminal(`lock left -- ${untilTyped("holder")}`)
      yield* holder.until(/holder holds/)
      const waiter = yield* effectKvInTerminal("lock left -- true")
      yield* waiter.until(/waiting for the lock "left"/)
      yield* waiter.type(ctrlC)
      assert.strictEqual(yield* waiter.end, 130)
      assert.lengthOf(yield* keys("left/"), 1)
      yield* holder.type("\n")
      assert.strictEqual(yield* holder.end, 0)
    }))
})
