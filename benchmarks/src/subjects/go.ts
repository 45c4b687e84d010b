/**
 * Go's etcd client, `go.etcd.io/etcd/client/v3`, and its `concurrency.Mutex`, in a process of their own: if the Go program
 * was built, that is if the machine has Go. While it runs, this process is idle, and the reverse.
 */
import * as GoClient from "@effect-kv/interop/GoClient"
import * as GoProgram from "@effect-kv/interop/GoProgram"
import * as Effect from "effect/Effect"
import type * as Measure from "../Measure.ts"
import * as Calls from "./Calls.ts"

/** The calls that the Go program can repeat. */
export type Name = "get" | "put" | "cas" | "mix"

const keys: Readonly<Record<Name, string>> = {
  get: Calls.key(""),
  put: Calls.key(""),
  mix: Calls.key(""),
  cas: Calls.casKey("go", "")
}

/** So many clients in one process; none without the Go program. */
const open = Effect.fnUntraced(function*(endpoints: ReadonlyArray<string>, count: number) {
  if (GoProgram.file() === undefined) return []
  const program = yield* GoProgram.start
  return yield* Effect.replicateEffect(GoClient.open(program, { endpoints }), count)
})

const loop = (clients: ReadonlyArray<GoClient.GoClient>, op: Name | "lock", key: string): Measure.Subject => ({
  name: "Go",
  loop: (inFlight, millis) =>
    GoClient.benchLoop(clients[0]!.program, { clients, op, key, inFlight, millis, value: Calls.value })
})

/** The subject that makes single calls, `[]` without the Go program. */
export const calls = Effect.fnUntraced(function*(endpoints: ReadonlyArray<string>, name: Calls.Name) {
  if (name === "range") return []
  const clients = yield* open(endpoints, 1)
  return clients.length === 0 ? [] : [loop(clients, name, keys[name])]
})

/** The subject that acquires and releases a Mutex, each caller with a client of its own; `[]` without the Go program. */
export const mutexes = Effect.fnUntraced(function*(endpoints: ReadonlyArray<string>, name: string, callers: number) {
  const clients = yield* open(endpoints, callers)
  return clients.length === 0 ? [] : [loop(clients, "lock", name)]
})

/** Replays what the prefixes have seen since a revision; `[]` without the Go program. */
export const replay = Effect.fnUntraced(function*(
  endpoints: ReadonlyArray<string>,
  history: { readonly prefixes: ReadonlyArray<string>; readonly each: number; readonly since: bigint }
) {
  const clients = yield* open(endpoints, 1)
  return clients.map((client) => ({
    name: "Go",
    round: GoClient.benchReplay(client, { ...history, revision: history.since })
  }))
})
