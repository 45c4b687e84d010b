/**
 * Members: the live processes of a group, each with a typed value, such as the instances of a service.
 *
 * `join` keeps a member in the store as long as a scope, through outages and restarts of the store. `watch` and `view`
 * follow the members. `partition` spreads shards over them.
 *
 * A member is a temporary key `NAME/ID` whose value is JSON. With {@link GoEndpoint} as the schema, Go's
 * `naming/endpoints` and its gRPC resolver read and write the same members.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as internals from "../internal/kv/internals.ts"
import * as goEndpoint from "../internal/members/goEndpoint.ts"
import * as joining from "../internal/members/join.ts"
import * as memberCodec from "../internal/members/memberCodec.ts"
import * as memberKey from "../internal/members/memberKey.ts"
import { type Member, MemberUndecodable, type Snapshot, type View } from "../internal/members/model.ts"
import * as partitioning from "../internal/members/partition.ts"
import * as rendezvous from "../internal/members/rendezvous.ts"
import * as views from "../internal/members/view.ts"
import type { TempKeyTaken } from "../internal/tempKey/tempKeyErrors.ts"
import { Kv } from "../service/Kv.ts"
import type * as KvError from "../values/KvError.ts"

export { MemberUndecodable }

export type { Member, Snapshot, View }

/**
 * Options of {@link join}.
 *
 * @since 0.1.0
 */
export interface Options<A> {
  /**
   * Identifies the member in its group: part of a key, without a slash. Choose one that no other process has, such as
   * the host and a random suffix.
   */
  readonly id: string
  /** What others learn of the member, such as its address. Not a secret. `update` changes it. */
  readonly value: A
  /** The form of the value. It is stored as JSON. */
  readonly schema: Schema.Codec<A, unknown>
  /** How long the member stays listed after its process crashes. Default: 10 seconds. */
  readonly ttl?: Duration.Input | undefined
  /**
   * What happens if another client has the id: `wait` until that member is gone, or `fail` with `TempKeyTaken`.
   * Default: `wait`, because a process that crashed leaves its member until its `ttl` has passed.
   */
  readonly onTaken?: "fail" | "wait" | undefined
}

/**
 * Joins the group. The member is in the store when this returns, and until the scope closes.
 *
 * **Details**
 *
 * While the store cannot be reached, it waits. Fork it to start a service without the store. A member that loses its
 * lease or is deleted is made again, with its latest value, as soon as the store can be reached, however often that
 * happens. When the scope closes, the key is deleted. If the store does not respond, the delete is repeated in the
 * background, and the close continues after a second.
 *
 * @example
 * ```ts
 * import { Members } from "@effect-kv/core"
 * import { Effect, Schema } from "effect"
 *
 * const Endpoint = Schema.Struct({ address: Schema.String, weight: Schema.Int })
 *
 * const program = Effect.gen(function*() {
 *   const value = { address: "10.0.0.7:80", weight: 1 }
 *   const me = yield* Members.join("api", { id: "host-7", value, schema: Endpoint })
 *   yield* me.update({ ...value, weight: 5 })
 *   me.key // => "api/host-7"
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const join = Effect.fnUntraced(function*<A>(
  name: string,
  options: Options<A>
): Effect.fn.Return<Member<A>, KvError.KvError | TempKeyTaken, Kv | Scope.Scope> {
  const kv = yield* Kv
  const { id } = options
  const key = yield* memberKey.make(name, id)
  const encode = memberCodec.encoder(options.schema)
  const { lease, lost, revision, status, update } = yield* internals.of(kv).sessions.onClock(
    joining.join(kv, key, yield* encode(options.value), { ttl: options.ttl, onTaken: options.onTaken ?? "wait" })
  )
  return { name, id, key, lease, revision, status, lost, update: (value) => Effect.flatMap(encode(value), update) }
})

/**
 * Opens a view of the members. It is current when this returns, and is kept current until the scope closes.
 *
 * **Details**
 *
 * While the store cannot be reached, it waits. Later it shows the last members in an outage, with `staleSince`. A value
 * that does not have the form of the schema is a failure of that member alone. The own member is shown if it is in the
 * store, like any other. Keys further down, such as `NAME/ID/more`, are not members.
 *
 * @example
 * ```ts
 * import { Members } from "@effect-kv/core"
 * import { Effect, Option, Result, Schema } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Members.join("api", { id: "host-7", value: "10.0.0.7:80", schema: Schema.String })
 *   const view = yield* Members.view("api", Schema.String)
 *   const { members, staleSince } = yield* view.snapshot
 *   const all = [...members] // => [["host-7", Result.succeed("10.0.0.7:80")]]
 *   staleSince // => Option.none()
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const view = <A>(
  name: string,
  schema: Schema.Codec<A, unknown>
): Effect.Effect<View<A>, KvError.KvError, Kv | Scope.Scope> => Effect.flatMap(Kv, (kv) => views.open(kv, name, schema))

/**
 * The members now, then after each change: {@link view} as a stream. A slow reader skips to the newest snapshot.
 *
 * @example
 * ```ts
 * import { Members } from "@effect-kv/core"
 * import { Effect, Schema, Stream } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   yield* Members.join("api", { id: "host-7", value: "10.0.0.7:80", schema: Schema.String })
 *   const seen = yield* Members.watch("api", Schema.String).pipe(Stream.take(1), Stream.runCollect)
 *   seen.map(({ members }) => [...members.keys()]) // => [["host-7"]]
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const watch = <A>(
  name: string,
  schema: Schema.Codec<A, unknown>
): Stream.Stream<Snapshot<A>, KvError.KvError, Kv> =>
  Stream.unwrap(Effect.map(view(name, schema), ({ changes }) => changes))

/**
 * The shards that are the member's: now, then whenever that changes.
 *
 * **Details**
 *
 * Each shard belongs to one of the members in the store: {@link owner}. A member that comes or goes moves only its own
 * part of the shards. The member has none while it is not in the store: it gives its shards up when its lease ends by
 * its own clock, before another member can see that it is gone. The stream ends when the member is gone permanently.
 *
 * **Gotchas**
 *
 * The views of two members may differ for a moment, so both may think that a shard is theirs. Do work that must not
 * overlap under a lock of the shard: `DistLock.withDistLock`. Then the partition only decides who tries.
 *
 * @example
 * ```ts
 * import { Members } from "@effect-kv/core"
 * import { Effect, Schema, Stream } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const me = yield* Members.join("api", { id: "host-7", value: "", schema: Schema.String })
 *   const mine = yield* Members.partition(me, ["a", "b", "c"]).pipe(Stream.take(1), Stream.runCollect)
 *   mine // => [["a", "b", "c"]]
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const partition = <A, const S extends string>(
  member: Member<A>,
  shards: ReadonlyArray<S>
): Stream.Stream<ReadonlyArray<S>, KvError.KvError, Kv> =>
  Stream.unwrap(Effect.map(Kv, (kv) => partitioning.ofMember(kv, member, shards)))

/**
 * The owner of a shard among these members, by rendezvous hashing; `undefined` if there are none.
 *
 * **Details**
 *
 * A pure function of the shard and the set of ids, the same in every process and every version. If a member comes or
 * goes, only shards move that it owns then or owned before. Each of `n` members owns about one `n`-th of many shards.
 *
 * @example
 * ```ts
 * import { Members } from "@effect-kv/core"
 *
 * const all = Members.owner("shard-1", ["a", "b", "c"]) // => "b"
 * const withoutA = Members.owner("shard-1", ["c", "b"]) // => "b"
 * ```
 *
 * @since 0.1.0
 */
export const owner = (shard: string, ids: Iterable<string>): string | undefined => rendezvous.ownerAmong(ids)(shard)

/**
 * The form of Go's `client/v3/naming/endpoints`: `{"Op":0,"Addr":"host:port","Metadata":...}`.
 *
 * **When to use**
 *
 * As the schema of a group whose members Go services resolve, such as with `etcd:///NAME` in a gRPC client.
 *
 * @example
 * ```ts
 * import { Kv, Members } from "@effect-kv/core"
 * import { Effect, Option } from "effect"
 *
 * const program = Effect.gen(function*() {
 *   const value = { address: "10.0.0.7:80", metadata: null }
 *   yield* Members.join("api", { id: "host-7", value, schema: Members.GoEndpoint })
 *   yield* Kv.get("api/host-7") // => Option.some('{"Op":0,"Addr":"10.0.0.7:80","Metadata":null}')
 * }).pipe(Effect.scoped)
 * ```
 *
 * @since 0.1.0
 */
export const GoEndpoint: Schema.Codec<GoEndpoint, unknown> = goEndpoint.schema

/**
 * An endpoint of a service: the value of a member with the schema {@link GoEndpoint}.
 *
 * @since 0.1.0
 */
export interface GoEndpoint extends goEndpoint.GoEndpoint {}
