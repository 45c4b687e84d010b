/**
 * Rounds saved to files, for inspection and to be checked again: the clients' histories, the server's history, and the
 * faults.
 */
import { History } from "@effect-kv/test-suite/verification"
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import type { AppliedFault } from "./AppliedFault.ts"
import type { Case } from "./RoundChecker.ts"
import type { Change } from "./Store.ts"

/** The folder for rounds with violations; git ignores it. */
export const folder = ".cache/chaos"

/** Saves everything the check needs and returns the path. */
export const save = ({ round, schedule, ...rest }: Case, name: string): Effect.Effect<string> =>
  Effect.sync(() => {
    const path = Path.join(folder, name)
    const write = (file: string, text: string) => Fs.writeFileSync(Path.join(path, file), text)
    const { changes, history, appliedFaults, ...times } = round
    // Files of an earlier run must not mix with this one.
    Fs.rmSync(path, { recursive: true, force: true })
    Fs.mkdirSync(path, { recursive: true })
    for (const [i, part] of partsOf(history).entries()) write(`clients-${i}.jsonl`, History.toText(part))
    write("server.jsonl", lines(changes.map(({ valueBytes: _, ...change }) => change)))
    write("faults.jsonl", lines(appliedFaults))
    write("round.jsonl", lines([{ ...rest, ...times, schedule }]))
    return path
  }).pipe(
    // The violations must be reported even if saving fails.
    Effect.catchDefect((defect) => Effect.succeed(`no file, since it could not be saved: ${String(defect)}`))
  )

/** Loads the round saved at a path. */
export const load = Effect.fnUntraced(function*(path: string) {
  const read = (file: string) =>
    Effect.try({
      try: () => Fs.readFileSync(Path.join(path, file), "utf8"),
      catch: (cause) => new Error(`there is no saved round at ${path}`, { cause })
    })
  const history = yield* loadParts(path)
  const changes = parsed<Omit<Change, "valueBytes">>(yield* read("server.jsonl"))
  const appliedFaults = parsed<AppliedFault>(yield* read("faults.jsonl"))
  const [rest] = parsed<Omit<Case, "round"> & Omit<Case["round"], "history" | "changes" | "appliedFaults">>(
    yield* read("round.jsonl")
  )
  const { backend, compactedAt, evicted, kinds, prefix, schedule, ...times } = rest!
  const round = {
    ...times,
    history,
    appliedFaults,
    changes: changes.map((change) => ({ ...change, valueBytes: new TextEncoder().encode(change.value) }))
  }
  return { backend, compactedAt, evicted, kinds, prefix, schedule, round } satisfies Case
})

/** A long history does not fit into one string. */
const partsOf = (history: History.History): ReadonlyArray<History.History> => {
  const parts: Array<History.History> = [{ ...history, calls: [], watches: [] }]
  for (let i = 0; i < history.calls.length; i += callsInPart) {
    parts.push({ ...History.empty, calls: history.calls.slice(i, i + callsInPart) })
  }
  for (const watch of history.watches) {
    const last = parts[parts.length - 1]!
    const events = watch.batches.length + last.watches.reduce((sum, { batches }) => sum + batches.length, 0)
    if (events > batchesInPart) parts.push({ ...History.empty, watches: [watch] })
    else parts[parts.length - 1] = { ...last, watches: [...last.watches, watch] }
  }
  return parts
}

const callsInPart = 50_000
const batchesInPart = 20_000

const loadParts = Effect.fnUntraced(function*(path: string) {
  let history = History.empty
  for (let i = 0; Fs.existsSync(Path.join(path, `clients-${i}.jsonl`)); i++) {
    const part = yield* History.fromText(Fs.readFileSync(Path.join(path, `clients-${i}.jsonl`), "utf8"))
    history = {
      calls: [...history.calls, ...part.calls],
      watches: [...history.watches, ...part.watches],
      holdings: [...history.holdings, ...part.holdings],
      effects: [...history.effects, ...part.effects]
    }
  }
  return history
})

const lines = (values: ReadonlyArray<unknown>): string =>
  values.map((value) =>
    `${JSON.stringify(value, (_, each: unknown) => typeof each === "bigint" ? `${each}n` : each)}\n`
  ).join("")

/** Only `lines` of this module writes these files, so their types are not checked. */
const parsed = <A>(text: string): ReadonlyArray<A> =>
  text.split("\n").filter((line) => line !== "").map((line) =>
    JSON.parse(
      line,
      (_, each: unknown) => typeof each === "string" && /^-?\d+n$/.test(each) ? BigInt(each.slice(0, -1)) : each
    ) as A
  )
