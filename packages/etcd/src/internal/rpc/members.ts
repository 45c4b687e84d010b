/**
 * The member list of a cluster as a source of endpoints.
 *
 * Members advertise what their operators configured, which may be wrong for this client: a loopback address, a name
 * that only resolves elsewhere, the address of a member of another cluster. So an address becomes an endpoint only
 * after it has responded as a member of the same cluster.
 */
import * as Deadline from "@effect-kv/core/Deadline"
import type * as KvError from "@effect-kv/core/KvError"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as addresses from "../addresses.ts"
import type { Settings } from "../settings.ts"
import type { Replaced } from "../store/storeIdentity.ts"
import { decoded, observed, type Store } from "../wire/decoded.ts"
import { decodeMemberList, encodeMemberList, type Member, type MemberList } from "../wire/memberCodec.ts"
import * as channels from "./channels.ts"
import * as retry from "./retry.ts"
import * as rpc from "./rpc.ts"

export interface Members {
  readonly settings: Settings
  readonly context: retry.RetryContext
  readonly store: Store
  /** Opens at the client's first call. */
  readonly used: Latch.Latch
  /** Opens when the list must be read soon: an endpoint is down, or the store was replaced. */
  readonly due: Latch.Latch
  /** The endpoints that the options gave. */
  readonly given: () => ReadonlyArray<string>
  /** The endpoints that were discovered. */
  readonly discovered: () => ReadonlyArray<string>
  readonly setDiscovered: (discovered: ReadonlyArray<string>) => Effect.Effect<void>
}

/** After a failure the next attempt follows sooner than usual: first after this many milliseconds, then twice that. */
const firstRetry = 5000

/** How long an address has to respond. */
const probeTimeout = "5 seconds"

/** Reads the member list repeatedly: at intervals, and when it is due. */
export const follow = Effect.fnUntraced(function*(members: Members, interval: Duration.Duration) {
  const longest = Duration.toMillis(interval)
  let failures = 0
  let isLogged = false
  yield* members.used.await
  while (true) {
    members.due.closeUnsafe()
    const result = yield* Effect.result(refresh(members))
    if (result._tag === "Failure" && !isLogged) yield* logFailure(result.failure)
    isLogged = result._tag === "Failure"
    failures = result._tag === "Success" && result.success ? 0 : failures + 1
    const wait = failures === 0 ? longest : Math.min(firstRetry * 2 ** (failures - 1), longest)
    yield* Effect.raceFirst(Effect.sleep(wait), members.due.await)
    // Clients that lose the same member spread their requests.
    yield* Effect.sleep(Math.min(longest, 250 + 750 * (yield* Random.next)))
  }
})

const logFailure = (error: KvError.KvError): Effect.Effect<void> =>
  Effect.annotateLogs(Effect.logWarning("effect-kv: the member list cannot be read"), { reason: error.message })

/** Reads the list once. Returns whether every new address responded. */
const refresh = Effect.fnUntraced(function*(members: Members): Effect.fn.Return<boolean, KvError.KvError> {
  const { header, members: listed } = yield* read(members)
  // A list without members cannot be true.
  if (listed.length === 0) return true
  const usable = usableUrls(listed, members.given())
  const known = members.discovered()
  const added = usable.filter((address) => !known.includes(address))
  const joined = yield* Effect.filter(added, (address) => probe(members, address, header.clusterId), {
    concurrency: "unbounded"
  })
  yield* members.setDiscovered([...known.filter((address) => usable.includes(address)), ...joined])
  return joined.length === added.length
})

/** The client URLs that this client may use beside the given endpoints. */
export const usableUrls = (
  members: ReadonlyArray<Member>,
  given: ReadonlyArray<string>
): ReadonlyArray<string> => {
  const isSecure = given.every(addresses.isSecure)
  const isLocal = given.some(addresses.isLocal)
  const urls = members.filter((member) => !member.isLearner).flatMap((member) => member.clientUrls).filter((url) =>
    addresses.problemOf(url, 0) === undefined &&
    addresses.isSecure(url) === isSecure &&
    (isLocal || !addresses.isLocal(url))
  )
  return [...new Set(urls.map(addresses.normalized))].filter((url) => !given.includes(url))
}

const read = Effect.fnUntraced(
  function*({ context, store }: Members): Effect.fn.Return<MemberList, KvError.KvError> {
    const reading = retry.run<MemberList | Replaced, MemberList>(context, {
      name: "memberList",
      policy: "read",
      hasLeader: true,
      send: observed(store, "Member", {
        ...memberList(true),
        decode: (message) => {
          const value = decodeMemberList(message)
          return { header: value.header, value }
        }
      }),
      finish: (result) => decoded("read", result)
    })
    const deadline = Duration.min(context.deadline, Deadline.defaultDeadline)
    return yield* Effect.provideService(reading, Deadline.Deadline, deadline)
  }
)

const memberList = (linearizable: boolean): rpc.Rpc<MemberList> => ({
  path: "/etcdserverpb.Cluster/MemberList",
  request: encodeMemberList(linearizable),
  decode: decodeMemberList
})

/**
 * Whether the address responds as a member of the cluster. Its connection is closed again, because most clients use one
 * endpoint only.
 */
const probe = ({ context, settings }: Members, address: string, clusterId: bigint): Effect.Effect<boolean> =>
  Effect.scoped(Effect.gen(function*() {
    const { token } = context.tokens.current() ?? { token: yield* context.tokens.get }
    const { calls } = yield* channels.open(address, settings, { onSilent: () => {}, onReplaced: () => {} })
    const response = yield* calls.unary("/etcdserverpb.Cluster/MemberList", encodeMemberList(false), {
      metadata: rpc.metadataOf(token, false),
      sensitive: rpc.sensitive
    })
    const { header } = yield* Effect.try(() => decodeMemberList(response))
    return header.clusterId !== 0n && header.clusterId === clusterId
  })).pipe(
    Effect.orElseSucceed(() => false),
    Effect.timeoutOption(probeTimeout),
    Effect.map(Option.getOrElse(() => false))
  )
