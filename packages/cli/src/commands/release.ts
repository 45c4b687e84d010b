/**
 * `effect-kv release`: removes one contender from the queue of a lock, exactly: the one with this token, or none.
 */
import * as DistLock from "@effect-kv/core/DistLock"
import * as Inventory from "@effect-kv/core/Inventory"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Lease from "@effect-kv/core/Lease"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as connection from "../connection.ts"
import * as exitCodes from "../exitCodes.ts"
import { printable } from "../inspect/cells.ts"
import * as leaseTimes from "../inspect/leaseTimes.ts"
import * as listing from "../inspect/listing.ts"
import { remove } from "../inspect/remove.ts"
import { timeIn } from "../inspect/times.ts"
import * as output from "../output.ts"
import * as flags from "./flags.ts"

export const release = Command.make(
  "release",
  {
    name: Argument.String("name").pipe(
      Argument.withDescription("The lock, election, read-write lock or semaphore, as 'locks' shows it")
    ),
    token: flags.revision("token", "The fencing token of the contender to remove, as 'locks' shows it")
  },
  Effect.fnUntraced(function*({ name, token }) {
    const before = yield* queuesOf(name)
    if (Option.isNone(token)) return yield* new exitCodes.UsageError({ message: yield* needsToken(name, before) })
    const found = before.queues.flatMap((queue) =>
      queue.contenders.filter((each) =>
        each.token === token.value
      ).map((contender) => ({ queue, contender }))
    )[0]
    if (found === undefined) return yield* isGone(name, token.value, before)
    const { contender, queue } = found
    const leases = yield* leaseTimes.read(Option.toArray(contender.lease))
    const others = yield* otherKeys(contender)
    const isRemoved = yield* remove(contender)
    const after = yield* queuesOf(name)
    if (!isRemoved) return yield* isGone(name, contender.token, after)
    const now = yield* Clock.currentTimeMillis
    const context = { now, leases, since: (each: Inventory.Contender) => timeIn(each.description) }
    const next = after.queues.filter(({ kind }) => kind === queue.kind).flatMap(({ contenders }) =>
      contenders.filter(({ isHolder, token }) =>
        isHolder && !queue.contenders.some((each) => each.isHolder && each.token === token)
      )
    )
    yield* output.result(
      report(queue, contender, next, others, listing.ttlOf(contender, context)),
      {
        name,
        released: {
          ...listing.contenderToJson(contender, context),
          description: contender.description,
          wasHolder: contender.isHolder
        },
        nextHolders: next.map((each) => ({ token: each.token, description: each.description })),
        otherKeysOfItsLease: others
      }
    )
  }, connection.onExistingStore)
).pipe(
  Command.withShortDescription("Frees a stuck lock, by its token"),
  Command.withDescription(
    "Removes the holder, or a waiter, with this token. It changes nothing if that one is gone already, even if another " +
      "holds the lock by now: then the exit code is 1. Without --token it says what the token is."
  ),
  Command.withExamples([{ command: "effect-kv release nightly --token 1042" }])
)

/** The queues of exactly this name. Those of names further down are read as well, and left out. */
const queuesOf = (name: string) =>
  Effect.map(Inventory.snapshot(KeyRange.prefix(`${name}/`)), ({ queues }) => ({
    queues: queues.filter((queue) => queue.name === name)
  }))

type Queues = Effect.Success<ReturnType<typeof queuesOf>>

const named = (contender: Inventory.Contender): string =>
  `token ${contender.token}, ${listing.describe(contender) || `key ${printable(contender.key)}`}`

const holdersOf = ({ queues }: Queues): ReadonlyArray<Inventory.Contender> =>
  queues.flatMap(({ contenders }) => contenders.filter(({ isHolder }) => isHolder))

/** A name without contenders may still be blocked: a lock waits for every key directly under its name. */
const unheld = (name: string) =>
  Effect.map(
    DistLock.holder(name),
    Option.match({
      onNone: () => "it is free",
      onSome: ({ key }) =>
        `the key ${printable(key)} blocks it as a lock. To remove that: effect-kv delete ${quoted(key)}`
    })
  )

const needsToken = Effect.fnUntraced(function*(name: string, found: Queues) {
  const [first, ...others] = holdersOf(found)
  return first === undefined
    ? `${JSON.stringify(name)} has no holder to release: ${yield* unheld(name)}`
    : `--token is missing; ${JSON.stringify(name)} is held by ${[first, ...others].map(named).join(" and ")}. ` +
      `To free it: effect-kv release ${quoted(name)} --token ${first.token}`
})

/** Nothing was changed. */
const isGone = Effect.fnUntraced(function*(name: string, token: bigint, found: Queues) {
  const holders = holdersOf(found)
  yield* output.result(
    `nothing was changed: no contender for ${JSON.stringify(name)} has the token ${token}; ` +
      (holders.length === 0 ? yield* unheld(name) : `it is held by ${holders.map(named).join(" and ")}`),
    { name, released: null, holders: holders.map((each) => ({ token: each.token, description: each.description })) }
  )
  return yield* new exitCodes.Exit({ code: exitCodes.no })
})

/** What else its client has with this lease, and keeps. Not a failure if that may not be read. */
const otherKeys = ({ key, lease }: Inventory.Contender) =>
  Option.match(lease, {
    onNone: () => Effect.succeed([]),
    onSome: (id) =>
      Lease.timeToLive(id, { keys: true }).pipe(
        Effect.map(({ keys }) => keys.filter((each) => each !== key)),
        Effect.orElseSucceed((): ReadonlyArray<string> => [])
      )
  })

/** A word as a shell reads it. */
const quoted = (word: string): string => /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`

const report = (
  queue: Inventory.Queue,
  contender: Inventory.Contender,
  next: ReadonlyArray<Inventory.Contender>,
  others: ReadonlyArray<string>,
  ttl: string
): string =>
  [
    `removed the ${contender.isHolder ? "holder" : "waiter"} of ${JSON.stringify(queue.name)}: ${named(contender)} ` +
    `(lease: ${ttl})`,
    ...contender.isHolder
      ? [
        next.length === 0 ? "no client holds it now" : `now held by: ${next.map(named).join(" and ")}`,
        "the former holder, if it still runs: a client of effect-kv is interrupted with LockLost within a moment, and the " +
        "store already rejects its fenced writes; etcdctl and Go's clients do not notice and continue without the lock"
      ]
      : ["that client, if it still runs, stops waiting with LockLost"],
    ...others.length === 0 ? [] : [`its client keeps: ${others.map(printable).join(", ")}`]
  ].join("\n")
