/**
 * The text form of a history: one line of JSON for each record.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as History from "./records.ts"
import * as schemas from "./schemas.ts"

/**
 * The text is not a saved history.
 *
 * @since 0.1.0
 */
export class HistoryUnreadable extends Data.TaggedError("HistoryUnreadable")<{
  readonly message: string
  readonly cause?: unknown
}> {}

const header = { format: "effect-kv history", version: 1 } as const

const Line = Schema.toCodecJson(
  Schema.Union([schemas.Call, schemas.WatchCall, schemas.Holding, schemas.FencedEffect])
)

const Header = Schema.Struct({
  format: Schema.Literal(header.format),
  version: Schema.Literal(header.version)
})

const encodeLine = Schema.encodeSync(Schema.fromJsonString(Line))
const decodeLine = Schema.decodeUnknownEffect(Schema.fromJsonString(Line))
const decodeHeader = Schema.decodeUnknownEffect(Schema.fromJsonString(Header))

export const toText = (history: History.History): string => {
  const records = [...history.calls, ...history.watches, ...history.holdings, ...history.effects]
  return [JSON.stringify(header), ...records.map((record) => encodeLine(record)), ""].join("\n")
}

const isNotBlank = ([line]: readonly [line: string, number: number]): boolean => line.trim() !== ""

export const fromText = Effect.fnUntraced(function*(
  text: string
): Effect.fn.Return<History.History, HistoryUnreadable> {
  const [first, ...rest] = text.split("\n").map((line, i) => [line, i + 1] as const).filter(isNotBlank)
  if (first === undefined) return yield* new HistoryUnreadable({ message: "the text is empty" })
  yield* readable(first, decodeHeader)
  const calls: Array<History.Call> = []
  const watches: Array<History.WatchCall> = []
  const holdings: Array<History.Holding> = []
  const effects: Array<History.FencedEffect> = []
  for (const line of rest) {
    const record = yield* readable(line, decodeLine)
    switch (record._tag) {
      case "Call":
        calls.push(record)
        break
      case "Watch":
        watches.push(record)
        break
      case "Holding":
        holdings.push(record)
        break
      case "Effect":
        effects.push(record)
    }
  }
  return { calls, watches, holdings, effects }
})

const readable = <A>(
  [line, number]: readonly [line: string, number: number],
  decode: (line: string) => Effect.Effect<A, Schema.SchemaError>
): Effect.Effect<A, HistoryUnreadable> =>
  Effect.mapError(
    decode(line),
    (cause) => new HistoryUnreadable({ message: `line ${number}: ${cause.message}`, cause })
  )
