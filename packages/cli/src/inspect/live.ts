/**
 * A listing as a live screen, for an incident: it stays through outages of the store and says how old its data is.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import type { Kv } from "@effect-kv/core/Kv"
import type { KvError } from "@effect-kv/core/KvError"
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as References from "effect/References"
import type * as Stdio from "effect/Stdio"
import type * as Terminal from "effect/Terminal"
import { printable } from "./cells.ts"
import * as follow from "./follow.ts"
import type { Listing } from "./listing.ts"
import * as screen from "./screen.ts"
import * as table from "./table.ts"
import { duration } from "./times.ts"

/** What is shown, and where it comes from. */
export interface Source {
  readonly listing: Listing
  readonly prefix: string
  /** The store, without a password. */
  readonly shown: string
}

/** Runs the live screen until the person ends it. It fails if the store rejects it. */
export const run = <E, R>(
  source: Source,
  store: Layer.Layer<Kv, E, R>
): Effect.Effect<void, E | KvError, R | Terminal.Terminal | Stdio.Stdio> =>
  Effect.suspend(() => {
    const warnings = new Warnings()
    return Effect.gen(function*() {
      const following = yield* follow.make(source.listing, KeyRange.prefix(source.prefix))
      const began = yield* Clock.currentTimeMillis
      const frame = (columns: number) =>
        Effect.map(Clock.currentTimeMillis, (now) => frameOf(source, following.state(), warnings, began, now, columns))
      yield* Effect.raceFirst(following.run, screen.run(frame, following.changed))
    }).pipe(
      Effect.scoped,
      Effect.provide(store),
      // Log lines would destroy the screen. The last warning is a part of it.
      Effect.provide(Logger.layer([warnings.logger]))
    )
  })

/** The last warning of the client, such as an endpoint that is down. */
class Warnings {
  last: { readonly text: string; readonly millis: number } | undefined

  readonly logger = Logger.make<unknown, void>(({ date, fiber, logLevel, message }) => {
    if (logLevel !== "Warn" && logLevel !== "Error" && logLevel !== "Fatal") return
    // The reason of an endpoint names the endpoint.
    const { reason } = fiber.getRef(References.CurrentLogAnnotations)
    const parts = [...[message].flat(), ...reason === undefined ? [] : [reason]]
    this.last = { text: parts.map(String).join(": ").replace(/^effect-kv: /, ""), millis: date.getTime() }
  })
}

/** How long a warning stays on the screen. */
const warningMillis = 60_000

/** The text in lines of the width, at most three. */
const wrapped = (text: string, columns: number): ReadonlyArray<screen.Line> =>
  Array.from({ length: Math.min(3, Math.ceil(text.length / columns)) }, (_, i) => ({
    text: text.slice(i * columns, (i + 1) * columns)
  }))

const frameOf = (
  { listing, prefix, shown }: Source,
  state: follow.State,
  { last }: Warnings,
  began: number,
  now: number,
  columns: number
): screen.Frame => {
  const { snapshot } = state
  const title = ["effect-kv", listing.name, prefix === "" ? shown : `${printable(prefix)}* ${shown}`].join(" ")
  const foot: ReadonlyArray<screen.Line> = [
    ...last !== undefined && now - last.millis < warningMillis
      ? wrapped(`${duration(now - last.millis)} ago: ${printable(last.text)}`, columns)
      : [],
    { text: "q quits", style: undefined }
  ]
  if (snapshot === undefined) {
    return {
      head: [{ text: title, style: "Title" }, {
        text: `NO DATA YET: connecting for ${duration(now - began)}`,
        style: "Alarm"
      }],
      body: [],
      foot
    }
  }
  const stale = Option.map(snapshot.staleSince, DateTime.toEpochMillis)
  const rows = listing.rows(snapshot, follow.contextOf(state, now))
  const [titles, ...lines] = table.lines(listing.columns, rows, columns)
  return {
    head: [
      { text: title, style: "Title" },
      Option.match(stale, {
        onNone: (): screen.Line => ({
          text: `${new Date(now).toISOString().slice(11, 19)}Z, revision ${snapshot.revision}`
        }),
        onSome: (since): screen.Line => ({
          text: `STALE for ${duration(now - since)}: cut off from the store since ` +
            `${new Date(since).toISOString().slice(11, 19)}Z; this is what it was then`,
          style: "Alarm"
        })
      }),
      ...rows.length === 0 ? [] : [{ text: titles! }]
    ],
    body: rows.length === 0 ? [{ text: `no ${listing.name}` }] : lines.map((text) => ({ text })),
    foot
  }
}
