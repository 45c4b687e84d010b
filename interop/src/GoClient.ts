/**
 * Go's etcd client (`clientv3.Client`) in a Go process, with what the package `concurrency` builds on it.
 */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type { GoError, GoProgram } from "./GoProgram.ts"

const Int64 = Schema.BigIntFromString
const Bytes = Schema.Uint8ArrayFromBase64
const Nothing = Schema.Unknown

const Entry = Schema.Struct({
  key: Schema.StringFromBase64,
  value: Bytes,
  createRevision: Int64,
  modRevision: Int64,
  version: Schema.Number,
  lease: Int64
})

/** A key with its value, as Go sees it. */
export type Entry = typeof Entry.Type

/** The result of an operation, alone or in a transaction. */
export interface Result {
  readonly revision: bigint
  readonly entries?: ReadonlyArray<Entry> | undefined
  readonly previous?: Entry | undefined
  readonly deleted?: number | undefined
  readonly succeeded: boolean
  readonly results?: ReadonlyArray<Result> | undefined
}

const Result: Schema.Decoder<Result> = Schema.Struct({
  revision: Int64,
  entries: Schema.optional(Schema.Array(Entry)),
  previous: Schema.optional(Entry),
  deleted: Schema.optional(Schema.Number),
  succeeded: Schema.Boolean,
  results: Schema.optional(Schema.Array(Schema.suspend((): Schema.Decoder<Result> => Result)))
})

const WatchResponse = Schema.Struct({
  created: Schema.optional(Schema.Boolean),
  revision: Int64,
  events: Schema.Array(Schema.Struct({
    type: Schema.Literals(["put", "delete"]),
    isCreate: Schema.Boolean,
    entry: Entry,
    previous: Schema.optional(Entry)
  }))
})

/** What Go's watch delivered at a time. */
export type WatchResponse = typeof WatchResponse.Type

const Lease = Schema.Struct({
  lease: Int64,
  ttl: Schema.Number,
  granted: Schema.optional(Schema.Number),
  keys: Schema.optional(Schema.Array(Schema.StringFromBase64))
})

/** A lease; `ttl` in seconds, -1 if it is gone. */
export type Lease = typeof Lease.Type

const Held = Schema.Struct({ key: Schema.String, token: Int64 })

/** The key that a mutex or an election is held by, and its create revision. */
export type Held = typeof Held.Type

const Endpoint = Schema.Struct({ key: Schema.String, address: Schema.String, metadata: Schema.Json })

/** An endpoint as Go decodes it. */
export type Endpoint = typeof Endpoint.Type

const EndpointUpdate = Schema.Struct({ add: Schema.Boolean, endpoint: Endpoint })

/** An endpoint that was added or changed, or deleted. */
export type EndpointUpdate = typeof EndpointUpdate.Type

const Round = Schema.Struct({
  opsPerSecond: Schema.Number,
  p50Ms: Schema.Number,
  p99Ms: Schema.Number,
  cpuMicrosPerOp: Schema.Number
})

/** An operation of a transaction. */
export type Op =
  | { readonly kind: "put"; readonly key: string; readonly value: string | Uint8Array; readonly lease?: bigint }
  | { readonly kind: "get" | "delete"; readonly key: string; readonly prefix?: boolean }
  | { readonly kind: "txn"; readonly txn: Txn }

/** A condition of a transaction: on the value, or on a number. */
export type Comparison =
  & { readonly key: string; readonly result: "=" | "!=" | "<" | ">" }
  & (
    | { readonly target: "value"; readonly value: string | Uint8Array }
    | { readonly target: "version" | "create" | "mod" | "lease"; readonly number: bigint }
  )

export interface Txn {
  readonly if?: ReadonlyArray<Comparison>
  readonly then?: ReadonlyArray<Op>
  readonly else?: ReadonlyArray<Op>
}

const bytes = (value: string | Uint8Array): string =>
  Buffer.from(typeof value === "string" ? new TextEncoder().encode(value) : value).toString("base64")

const opArgs = (op: Op): unknown =>
  op.kind === "txn"
    ? { kind: "txn", txn: txnArgs(op.txn) }
    : op.kind === "put"
    ? { ...op, key: bytes(op.key), value: bytes(op.value) }
    : { ...op, key: bytes(op.key) }

const txnArgs = (txn: Txn) => ({
  if: (txn.if ?? []).map((comparison) => ({
    ...comparison,
    key: bytes(comparison.key),
    ...(comparison.target === "value" ? { value: bytes(comparison.value) } : {})
  })),
  then: (txn.then ?? []).map(opArgs),
  else: (txn.else ?? []).map(opArgs)
})

type Call<A> = Effect.Effect<A, GoError>

/** Who to connect as, and where. */
export interface Options {
  readonly endpoints: ReadonlyArray<string>
  readonly username?: string
  readonly password?: string
}

/** A `concurrency.Session`. Mutexes and elections are named by the session and their name, as their keys are. */
export interface GoSession {
  readonly lease: bigint
  /** Waits until the session has ended, as Go's `Done` reports. */
  readonly done: Call<unknown>
  /** Ends the renewals and leaves the lease to expire. */
  readonly orphan: Call<unknown>
  /** Revokes the lease. */
  readonly close: Call<unknown>
  readonly lock: (name: string) => Call<Held>
  readonly tryLock: (name: string) => Call<Held>
  readonly unlock: (name: string) => Call<unknown>
  /** A put on the condition `mutex.IsOwner()`. */
  readonly putIfOwner: (name: string, key: string, value: string) => Call<Result>
  /** Increments a counter under the mutex so many times, by a read and an unconditional write. */
  readonly count: (name: string, key: string, times: number) => Call<unknown>
  /** A `recipe.RWMutex`. The holder is a name for this hold, because Go has one contender for each `RWMutex`. */
  readonly rwLock: (mode: "Read" | "Write", name: string, holder: string) => Call<unknown>
  readonly rwUnlock: (mode: "Read" | "Write", name: string, holder: string) => Call<unknown>
  readonly campaign: (name: string, value: string) => Call<Held>
  readonly proclaim: (name: string, value: string) => Call<unknown>
  readonly resign: (name: string) => Call<unknown>
  readonly leader: (name: string) => Call<Entry>
  readonly observe: (name: string) => Effect.Effect<Queue.Dequeue<Entry>, never, Scope.Scope>
}

/** The endpoints of a service, by `naming/endpoints`. */
export interface GoEndpoints {
  readonly add: (id: string, address: string, metadata: Schema.Json, lease?: bigint) => Call<unknown>
  readonly delete: (id: string) => Call<unknown>
  readonly list: Call<ReadonlyArray<Endpoint>>
  /** The updates that Go's gRPC resolver gets, until the scope closes. */
  readonly watch: Effect.Effect<Queue.Dequeue<EndpointUpdate>, never, Scope.Scope>
}

/** A `clientv3.Client`. */
export interface GoClient {
  readonly program: GoProgram
  /** How calls name it. */
  readonly name: string
  readonly put: (key: string | Uint8Array, value: string | Uint8Array, lease?: bigint) => Call<Result>
  readonly get: (key: string) => Call<Entry | undefined>
  readonly range: (prefix: string) => Call<Result>
  readonly delete: (key: string | Uint8Array, options?: { readonly prefix: boolean }) => Call<Result>
  readonly txn: (txn: Txn) => Call<Result>
  /** A watch that is confirmed. Its queue gets every response until the scope closes. */
  readonly watch: (
    prefix: string,
    options?: { readonly revision?: bigint; readonly fragment?: boolean }
  ) => Effect.Effect<Queue.Dequeue<WatchResponse, GoError>, GoError, Scope.Scope>
  readonly grant: (ttl: number) => Call<Lease>
  readonly revoke: (lease: bigint) => Call<unknown>
  readonly keepAliveOnce: (lease: bigint) => Call<Lease>
  readonly timeToLive: (lease: bigint) => Call<Lease>
  readonly session: (options: { readonly ttl: number; readonly lease?: bigint }) => Call<GoSession>
  /** The manager of `naming/endpoints` for a service. */
  readonly endpoints: (service: string) => GoEndpoints
  readonly auth: {
    readonly enable: Call<unknown>
    readonly disable: Call<unknown>
    readonly userAdd: (user: string, password: string) => Call<unknown>
    readonly userDelete: (user: string) => Call<unknown>
    readonly userPassword: (user: string, password: string) => Call<unknown>
    readonly userList: Call<ReadonlyArray<string>>
    readonly userGrantRole: (user: string, role: string) => Call<unknown>
    readonly roleAdd: (role: string) => Call<unknown>
    readonly roleGrant: (role: string, permission: "read" | "write" | "readwrite", prefix: string) => Call<unknown>
  }
}

let opened = 0

/** Opens a client in the process; it is closed with the process. */
export const open = Effect.fnUntraced(function*(program: GoProgram, options: Options) {
  const client = `client ${++opened}`
  yield* program.call("open", { client, ...options }, Nothing)
  return make(program, client)
})

const make = (program: GoProgram, client: string): GoClient => {
  const call = <A>(name: string, args: object, result: Schema.Decoder<A>) =>
    program.call(name, { client, ...args }, result)
  const auth = (name: string, args: object = {}) => call(name, args, Nothing)
  return {
    program,
    name: client,
    put: (key, value, lease = 0n) => call("put", { key: bytes(key), value: bytes(value), lease }, Result),
    get: (key) => Effect.map(call("get", { key: bytes(key) }, Result), ({ entries }) => entries?.[0]),
    range: (prefix) => call("get", { key: bytes(prefix), prefix: true }, Result),
    delete: (key, options) => call("delete", { key: bytes(key), ...options }, Result),
    txn: (txn) => call("txn", txnArgs(txn), Result),
    watch: Effect.fnUntraced(function*(prefix, options) {
      const responses = yield* Queue.unbounded<WatchResponse, GoError>()
      const decode = Schema.decodeUnknownSync(WatchResponse)
      yield* program.call(
        "watch",
        { client, key: bytes(prefix), prefix: true, ...options },
        Nothing,
        (item) => Queue.offerUnsafe(responses, decode(item))
      ).pipe(
        Effect.catch((error) => Queue.fail(responses, error)),
        Effect.forkScoped
      )
      yield* Queue.take(responses) // the confirmation
      return responses
    }),
    grant: (ttl) => call("grant", { ttl }, Lease),
    revoke: (lease) => call("revoke", { lease }, Nothing),
    keepAliveOnce: (lease) => call("keepAliveOnce", { lease }, Lease),
    timeToLive: (lease) => call("timeToLive", { lease }, Lease),
    session: Effect.fnUntraced(function*(options) {
      const session = `session ${++opened}`
      const { lease } = yield* call("session", { session, ...options }, Lease)
      return makeSession(program, session, lease)
    }),
    endpoints: (service) => {
      const call = <A>(name: string, args: object, result: Schema.Decoder<A>) =>
        program.call(name, { client, service, ...args }, result)
      return {
        add: (id, address, metadata, lease = 0n) => call("endpointAdd", { id, address, metadata, lease }, Nothing),
        delete: (id) => call("endpointDelete", { id }, Nothing),
        list: call("endpointList", {}, Schema.Array(Endpoint)),
        watch: Effect.gen(function*() {
          const updates = yield* Queue.unbounded<EndpointUpdate>()
          const decode = Schema.decodeUnknownSync(EndpointUpdate)
          yield* program.call(
            "endpointWatch",
            { client, service },
            Nothing,
            (item) => Queue.offerUnsafe(updates, decode(item))
          ).pipe(Effect.ignore, Effect.forkScoped)
          return updates
        })
      }
    },
    auth: {
      enable: auth("authEnable"),
      disable: auth("authDisable"),
      userAdd: (user, password) => auth("userAdd", { user, password }),
      userDelete: (user) => auth("userDelete", { user }),
      userPassword: (user, password) => auth("userPassword", { user, password }),
      userList: call("userList", {}, Schema.Array(Schema.String)),
      userGrantRole: (user, role) => auth("userGrantRole", { user, role }),
      roleAdd: (role) => auth("roleAdd", { role }),
      roleGrant: (role, permission, prefix) => auth("roleGrant", { role, permission, prefix })
    }
  }
}

const makeSession = (program: GoProgram, session: string, lease: bigint): GoSession => {
  const call = <A>(name: string, args: object, result: Schema.Decoder<A>) =>
    program.call(name, { session, ...args }, result)
  return {
    lease,
    done: call("sessionDone", {}, Nothing),
    orphan: call("sessionOrphan", {}, Nothing),
    close: call("sessionClose", {}, Nothing),
    lock: (name) => call("lock", { name }, Held),
    tryLock: (name) => call("tryLock", { name }, Held),
    unlock: (name) => call("unlock", { name }, Nothing),
    putIfOwner: (name, key, value) => call("putIfOwner", { name, key: bytes(key), value: bytes(value) }, Result),
    count: (name, key, times) => call("count", { name, key: bytes(key), times }, Nothing),
    rwLock: (mode, name, holder) => call("rwLock", { name, holder, write: mode === "Write" }, Nothing),
    rwUnlock: (mode, name, holder) => call("rwUnlock", { name, holder, write: mode === "Write" }, Nothing),
    campaign: (name, value) => call("campaign", { name, value }, Held),
    proclaim: (name, value) => call("proclaim", { name, value }, Nothing),
    resign: (name) => call("resign", { name }, Nothing),
    leader: (name) => call("leader", { name }, Entry),
    observe: Effect.fnUntraced(function*(name) {
      const leaders = yield* Queue.unbounded<Entry>()
      const decode = Schema.decodeUnknownSync(Entry)
      yield* program.call(
        "observe",
        { session, name },
        Nothing,
        (item) => Queue.offerUnsafe(leaders, decode(item))
      ).pipe(Effect.ignore, Effect.forkScoped)
      return leaders
    })
  }
}

/** A closed loop of so many callers in Go. */
export const benchLoop = (
  program: GoProgram,
  args: {
    /** One client for all callers, or one for each. */
    readonly clients: ReadonlyArray<GoClient>
    readonly op: "get" | "put" | "cas" | "mix" | "lock"
    readonly inFlight: number
    readonly millis: number
    /** The key of a caller is this with its number behind it; of locks, the name. */
    readonly key: string
    readonly value: string
  }
): Call<typeof Round.Type> =>
  program.call("benchLoop", { ...args, clients: args.clients.map(({ name }) => name) }, Round)

/** The replay of so many events for each prefix, since a revision. */
export const benchReplay = (
  client: GoClient,
  args: { readonly prefixes: ReadonlyArray<string>; readonly each: number; readonly revision: bigint }
): Call<typeof Round.Type> => client.program.call("benchReplay", { client: client.name, ...args }, Round)

/** The CPU time that the client's process has used, in microseconds. */
export const cpuMicros = (client: GoClient): Call<number> => client.program.call("cpuMicros", {}, Schema.Number)
