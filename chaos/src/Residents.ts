/**
 * Residents of a round: what each client keeps from its start to its end. A temporary key, a member of a group, a view of
 * the members, a view of typed values, live settings, and an observer of the election.
 */
import type * as KvCollection from "@effect-kv/core/KvCollection"
import type * as KvConfig from "@effect-kv/core/KvConfig"
import type * as Members from "@effect-kv/core/Members"
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { Notes } from "./Notes.ts"
import * as Span from "./Span.ts"
import type { Change, Store } from "./Store.ts"
import * as Views from "./Views.ts"
import * as collections from "./work/collections.ts"
import * as elections from "./work/elections.ts"
import * as latches from "./work/latches.ts"
import * as leases from "./work/leases.ts"
import * as members from "./work/members.ts"
import * as settings from "./work/settings.ts"
import type { RecordedClient } from "./work/Worker.ts"
import * as Workers from "./Workers.ts"

/** The residents of a round. What is wrong with them is added to its problems. */
export interface Residents {
  /** Waits until the clients have their temporary keys and their members again. Stalls do not count. */
  readonly areThere: (
    store: Store,
    stalls: ReadonlyArray<ReadonlyArray<Span.Span>>
  ) => Effect.Effect<void, Error>
  /** Leads once more, and waits until every observer has seen that and the end of it. Whether it did is checked later. */
  readonly leadersAreSeen: (within: Duration.Input) => Effect.Effect<void, unknown>
  /** Waits until every client sees every member with a value that it was known to have before. */
  readonly membersAreSeen: (within: Duration.Input) => Effect.Effect<void, unknown>
  /** Waits until the view of typed values of every client shows what the store holds. */
  readonly usersAreSeen: (within: Duration.Input) => Effect.Effect<void, unknown>
  /** Writes good settings once more, and waits until every client uses them. */
  readonly settingsAreSeen: (within: Duration.Input) => Effect.Effect<void, unknown>
  /** Lets all clients wait for a latch that is opened and reset at once. Whether all have passed is checked later. */
  readonly latchIsSeen: (within: Duration.Input) => Effect.Effect<void, unknown, Scope.Scope>
  /** What the views of members and of typed values and the live settings showed wrong, as messages. */
  readonly wrongViews: (changes: ReadonlyArray<Change>) => ReadonlyArray<string>
}

/** How long a member keeps a value. */
const memberRests = "400 millis"

/** Starts the residents. They stay until the scope closes. */
export const start = Effect.fnUntraced(function*(
  clients: ReadonlyArray<RecordedClient>,
  notes: Notes,
  problems: Array<string>
) {
  const staying = (what: string, { name }: RecordedClient, effect: Effect.Effect<unknown, unknown>) =>
    Effect.forkScoped(
      Effect.onError(
        effect,
        (cause) => Effect.sync(() => Workers.noteUnexpected(cause, `the ${what} of ${name}`, problems, true))
      )
    )
  const memberViews = yield* Effect.forEach(clients, members.view)
  const seenMembers = clients.map((): Array<Members.Snapshot<string>> => [])
  const userViews = yield* Effect.forEach(clients, collections.view)
  const seenUsers = clients.map((): Array<KvCollection.Snapshot<string, collections.User>> => [])
  yield* settings.writeGood(clients[0]!)
  const liveSettings = yield* Effect.forEach(clients, settings.live)
  const seenSettings = clients.map((): Array<KvConfig.State<settings.Settings>> => [])
  yield* Effect.forEach(clients, (client, i) =>
    Effect.all([
      staying("temporary key", client, leases.resident(client)),
      staying("member", client, members.resident(client, Effect.sleep(memberRests))),
      staying("view of members", client, Views.look(memberViews[i]!, seenMembers[i]!)),
      staying("view of users", client, Views.look(userViews[i]!, seenUsers[i]!)),
      staying("live settings", client, Views.lookAtSettings(liveSettings[i]!, seenSettings[i]!)),
      staying("observer", client, elections.observing(client, notes.leaders[client.name]!))
    ]))
  // From here on the observers see every leader.
  yield* Effect.repeat(Effect.sleep("5 millis"), {
    until: () => Object.values(notes.leaders).every((seen) => seen.length > 0)
  })

  const membersAreSeen = Effect.fnUntraced(function*(within: Duration.Input) {
    const known = clients.map(({ name }) => ({ name, ...notes.members[name]! }))
    const unseen = (snapshot: Members.Snapshot<string>) =>
      known.filter(({ known, name, values }) => {
        const seen = snapshot.members.get(name)
        return seen === undefined || Result.isFailure(seen) || values.indexOf(seen.success) < known
      })
    for (const [i, view] of memberViews.entries()) {
      const left = Effect.map(view.snapshot, unseen)
      const seen = Effect.repeat(left, {
        until: (left) => left.length === 0,
        schedule: Schedule.spaced("20 millis")
      })
      yield* Effect.timeoutOption(seen, within)
      problems.push(
        ...(yield* left).map(({ name }) => `${clients[i]!.name} does not see the latest value of the member ${name}`)
      )
    }
  })

  const leadersAreSeen = Effect.fnUntraced(function*(within: Duration.Input) {
    const client = clients[0]!
    const value = yield* client.recorder.value(client.name)
    yield* Effect.retry(elections.leadLast(client, value), { schedule: Schedule.spaced("200 millis"), times: 50 })
    const haveSeen = () =>
      Object.values(notes.leaders).every((seen) => seen.at(-1)?.revision === 0n && seen.at(-2)?.value === value)
    yield* Effect.timeoutOption(Effect.repeat(Effect.sleep("20 millis"), { until: haveSeen }), within)
  })

  const usersAreSeen = Effect.fnUntraced(function*(within: Duration.Input) {
    const stored = Effect.map(collections.stored(clients[0]!), (entries) => entries.map(String).toSorted().join())
    for (const [i, view] of userViews.entries()) {
      const isCurrent = Effect.zipWith(
        stored,
        view.snapshot,
        (there, { items }) => there === items.map((item) => collections.revisionOf(item)).map(String).toSorted().join()
      )
      const current = yield* Effect.timeoutOption(
        Effect.repeat(isCurrent, { until: (is) => is, schedule: Schedule.spaced("20 millis") }),
        within
      )
      if (Option.isNone(current)) problems.push(`${clients[i]!.name} does not see the latest users`)
      seenUsers[i]!.push(yield* view.snapshot)
    }
  })

  const settingsAreSeen = Effect.fnUntraced(function*(within: Duration.Input) {
    const { revision } = yield* Effect.retry(settings.writeGood(clients[0]!), {
      schedule: Schedule.spaced("200 millis"),
      times: 50
    })
    for (const [i, live] of liveSettings.entries()) {
      const seen = yield* Effect.timeoutOption(
        Effect.repeat(live.state, {
          until: (state) =>
            state.revision >= revision && Option.isNone(state.rejected) && Option.isNone(state.staleSince),
          schedule: Schedule.spaced("20 millis")
        }),
        within
      )
      if (Option.isNone(seen)) problems.push(`${clients[i]!.name} does not use the latest settings`)
      seenSettings[i]!.push(yield* live.state)
    }
  })

  const latchIsSeen = Effect.fnUntraced(function*(within: Duration.Input) {
    const waits = yield* Effect.forEach(clients, (client) => Effect.forkScoped(latches.lastWait(client)))
    const areWaiting = Effect.map(
      clients[0]!.recorder.history,
      (history) => clients.every((client) => latches.isLastWaiting(history, client))
    )
    const yes = { until: (are: boolean) => are, schedule: Schedule.spaced("200 millis") }
    yield* Effect.timeout(Effect.repeat(areWaiting, yes), within)
    yield* latches.openLast(clients[0]!)
    yield* Effect.timeoutOption(Fiber.awaitAll(waits), within)
  })

  return {
    areThere: (store, stalls) => areThere(store, clients, stalls, problems),
    leadersAreSeen,
    membersAreSeen,
    latchIsSeen,
    usersAreSeen,
    settingsAreSeen,
    wrongViews: (changes) =>
      clients.flatMap(({ name, prefix }, i) => [
        ...Views.wrongMembers(name, seenMembers[i]!, changes, members.groupName(prefix)),
        ...Views.wrongUsers(name, seenUsers[i]!, changes, collections.collectionPrefix(prefix)),
        ...Views.wrongSettings(name, seenSettings[i]!, changes, settings.settingsPrefix(prefix))
      ])
  } satisfies Residents
})

/**
 * How long a temporary key may be missing after the last fault, which was 2 seconds ago: until its old lease has expired, whose
 * time to live a new leader starts again. In milliseconds, without the time in which this process or the servers stalled.
 */
const returnWithin = 3000

/** The same with that time. */
const returnAtLast = 30_000

const areThere = Effect.fnUntraced(function*(
  store: Store,
  clients: ReadonlyArray<RecordedClient>,
  stalls: ReadonlyArray<ReadonlyArray<Span.Span>>,
  problems: Array<string>
) {
  const keys = clients.flatMap(({ name, prefix }) => [
    leases.residentKey(prefix, name),
    members.memberKey(prefix, name)
  ])
  const missing = Effect.map(store.keys(clients[0]!.prefix), (found) => {
    const there = new Set(found)
    return keys.filter((key) => !there.has(key))
  })
  const from = yield* Clock.monotonicTimeNanos
  const isOver = Effect.map(Clock.monotonicTimeNanos, (to) => {
    const millis = Span.millis({ from, to })
    return millis - Span.covered(Span.merge(stalls.flat()), { from, to }) >= returnWithin || millis >= returnAtLast
  })
  let left = yield* missing
  while (left.length > 0 && !(yield* isOver)) {
    yield* Effect.sleep("200 millis")
    left = yield* missing
  }
  problems.push(...left.map((key) => `the temporary key ${key} is missing, more than 5 seconds after the last fault`))
})
