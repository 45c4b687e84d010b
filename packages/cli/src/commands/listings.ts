/** `effect-kv locks`, `elections`, `members` and `sessions`: who holds what, who waits, and whose lease ends when. */
import * as Inventory from "@effect-kv/core/Inventory"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as KvError from "@effect-kv/core/KvError"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import { TerminalCapabilities } from "effect/cli/TerminalCapabilities"
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Stdio from "effect/Stdio"
import * as Terminal from "effect/Terminal"
import * as connection from "../connection.ts"
import { printable } from "../inspect/cells.ts"
import * as elections_ from "../inspect/elections.ts"
import * as follow from "../inspect/follow.ts"
import * as leaseTimes from "../inspect/leaseTimes.ts"
import type { Context, Listing } from "../inspect/listing.ts"
import * as live from "../inspect/live.ts"
import * as locks_ from "../inspect/locks.ts"
import * as members_ from "../inspect/members.ts"
import * as sessions_ from "../inspect/sessions.ts"
import * as table from "../inspect/table.ts"
import { timeIn } from "../inspect/times.ts"
import * as output from "../output.ts"
import { root } from "../root.ts"

const listingCommand = <const Name extends string>(name: Name, listing: Listing, short: string, description: string) =>
  Command.make(
    name,
    {
      prefix: Argument.String("prefix").pipe(
        Argument.withDescription("Only names that begin with this; default: all"),
        Argument.withDefault("")
      ),
      watch: Flag.Boolean("watch").pipe(
        Flag.withAlias("w"),
        Flag.withDescription("Shows each change, on a terminal as a live screen"),
        Flag.withoutNegation,
        Flag.withDefault(false)
      )
    },
    ({ prefix, watch }) =>
      (watch ? watched(listing, prefix) : connection.onExistingStore(once(listing, prefix))).pipe(
        Effect.tapError((error) => prefix === "" && isDenied(error) ? narrower : Effect.void)
      )
  ).pipe(Command.withShortDescription(short), Command.withDescription(description))

const isDenied = (error: unknown): boolean => KvError.isKvError(error) && error.reason._tag === "PermissionDenied"

/** On Postgres, privileges are of tables, not of keys. */
const narrower = Effect.flatMap(connection.settings, ({ url }) =>
  connection.isPostgres(url)
    ? Effect.void
    : output.progress("the user may not read all keys: give a PREFIX of names that it may read"))

const once = Effect.fnUntraced(function*(listing: Listing, prefix: string) {
  const snapshot = yield* Inventory.snapshot(KeyRange.prefix(prefix))
  const leases = yield* leaseTimes.read(listing.leases(snapshot))
  const now = yield* Clock.currentTimeMillis
  const context = { now, leases, since: (contender: Inventory.Contender) => timeIn(contender.description) }
  yield* output.result(yield* textOf(listing, snapshot, context, prefix), jsonOf(listing, snapshot, context))
})

const textOf = Effect.fnUntraced(function*(
  listing: Listing,
  snapshot: Inventory.Snapshot,
  context: Context,
  prefix: string
) {
  const rows = listing.rows(snapshot, context)
  if (rows.length === 0) return `no ${listing.name}${prefix === "" ? "" : ` under ${printable(prefix)}`}`
  const { stdoutIsTerminal } = yield* Stdio.Stdio
  const { columns } = yield* Terminal.Terminal
  const width = (yield* stdoutIsTerminal) ? (yield* columns) || undefined : undefined
  return table.lines(listing.columns, rows, width).join("\n")
})

const jsonOf = (listing: Listing, snapshot: Inventory.Snapshot, context: Context): object => ({
  revision: snapshot.revision,
  staleSince: Option.getOrNull(Option.map(snapshot.staleSince, DateTime.formatIso)),
  [listing.name]: listing.json(snapshot, context)
})

const watched = Effect.fnUntraced(function*(listing: Listing, prefix: string) {
  const { json } = yield* root
  const { canAnimate } = yield* TerminalCapabilities
  if (json || !canAnimate) return yield* connection.onExistingStore(printed(listing, prefix))
  const settings = yield* connection.settings
  const isOwnStore = settings.prefix === ""
  yield* live.run(
    {
      listing,
      prefix,
      shown: isOwnStore ? settings.shown : `${settings.shown} (prefix ${printable(settings.prefix)})`
    },
    connection.open(settings, "Existing")
  ).pipe(connection.explained(settings))
})

/** Prints the whole listing after each change. */
const printed = Effect.fnUntraced(function*(listing: Listing, prefix: string) {
  const following = yield* follow.make(listing, KeyRange.prefix(prefix))
  let printed: Inventory.Snapshot | undefined
  const print = Effect.gen(function*() {
    yield* Queue.take(following.changed)
    const state = following.state()
    const { isComplete, snapshot } = state
    if (snapshot === undefined || snapshot === printed || !isComplete) return
    printed = snapshot
    const now = yield* Clock.currentTimeMillis
    const context = follow.contextOf(state, now)
    const time = new Date(now).toISOString()
    const text = yield* textOf(listing, snapshot, context, prefix)
    yield* output.result(
      `${time} revision ${snapshot.revision}${Option.isSome(snapshot.staleSince) ? " STALE" : ""}\n${text}\n`,
      jsonOf(listing, snapshot, context)
    )
  })
  yield* Effect.raceFirst(following.run, Effect.forever(print))
}, Effect.scoped)

export const locks = listingCommand(
  "locks",
  locks_.locks,
  "Shows who holds locks and who waits",
  "Shows who holds and who waits for locks, read-write locks and semaphores: the fencing token, the time that the " +
    "lease has left, since when (if the description contains a time), and the description."
)

export const elections = listingCommand(
  "elections",
  elections_.elections,
  "Shows leaders and candidates",
  "Shows the leader of each election, its value, and the candidates behind it. The store does not tell an election " +
    "from a lock, so locks are shown as well."
)

export const members = listingCommand(
  "members",
  members_.members,
  "Shows members and temporary keys",
  "Shows the members of groups, slots and temporary keys: all keys with a lease that contend for nothing."
)

export const sessions = listingCommand(
  "sessions",
  sessions_.sessions,
  "Shows what each client holds",
  "Shows the leases that keys are attached to: the time that each has left, and what its client holds, waits for and " +
    "keeps. Leases without keys are not shown."
)
