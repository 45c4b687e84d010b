/**
 * Rounds in files, to be looked at and judged again: what the clients saw, what the server did, and the faults.
 */
import type * as EtcdCluster from "@effect-kv/test-suite/EtcdCluster"
import * as History from "@effect-kv/test-suite/History"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import type { Inflicted } from "./Inflict.ts"
import type { Case } from "./Verdict.ts"

/** Where rounds go that something was found in: outside of what git tracks. */
export const folder = ".cache/chaos"

/** Saves what a round is judged by, and says where. */
export const save = ({ round, schedule, ...rest }: Case, name: string): Effect.Effect<string> =>
  Effect.sync(() => {
    const path = Path.join(folder, name)
    const write = (file: string, text: string) => Fs.writeFileSync(Path.join(path, file), text)
    const { changes, history, inflicted, ...times } = round
    Fs.mkdirSync(path, { recursive: true })
    write("clients.jsonl", History.toText(history))
    write("server.jsonl", lines(changes.map(({ valueBytes: _, ...change }) => change)))
    write("faults.jsonl", lines(inflicted))
    write("round.jsonl", lines([{ ...rest, ...times, schedule }]))
    return path
  })

/** What was saved at a path. */
export const load = Effect.fnUntraced(function*(path: string) {
  const read = (file: string) =>
    Effect.try({
      try: () => Fs.readFileSync(Path.join(path, file), "utf8"),
      catch: (cause) => new Error(`there is no saved round at ${path}`, { cause })
    })
  const history = yield* History.fromText(yield* read("clients.jsonl"))
  const changes = parsed<Omit<EtcdCluster.HistoryEvent, "valueBytes">>(yield* read("server.jsonl"))
  const inflicted = parsed<Inflicted>(yield* read("faults.jsonl"))
  const [rest] = parsed<Omit<Case, "round"> & Omit<Case["round"], "history" | "changes" | "inflicted">>(
    yield* read("round.jsonl")
  )
  const { compactedAt, evicted, prefix, schedule, ...times } = rest!
  const round = {
    ...times,
    history,
    inflicted,
    changes: changes.map((change) => ({ ...change, valueBytes: new TextEncoder().encode(change.value) }))
  }
  return { compactedAt, evicted, prefix, schedule, round } satisfies Case
})

const lines = (values: ReadonlyArray<unknown>): string =>
  values.map((value) =>
    `${JSON.stringify(value, (_, each: unknown) => typeof each === "bigint" ? `${each}n` : each)}\n`
  ).join("")

/** What was written by `lines`, which only this module does: so it is taken for what it was. */
const parsed = <A>(text: string): ReadonlyArray<A> =>
  text.split("\n").filter((line) => line !== "").map((line) =>
    JSON.parse(
      line,
      (_, each: unknown) => typeof each === "string" && /^-?\d+n$/.test(each) ? BigInt(each.slice(0, -1)) : each
    ) as A
  )
