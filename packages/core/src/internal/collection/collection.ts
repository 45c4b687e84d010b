/**
 * The implementation of `KvCollection`: the methods of a `Kv` on the keys under a prefix, with a codec.
 */
import * as Effect from "effect/Effect"
import { NodeInspectSymbol } from "effect/Inspectable"
import * as Option from "effect/Option"
import type * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import type { Kv } from "../../service/KvService.ts"
import type { Entry } from "../../values/Entry.ts"
import * as KeyRange from "../../values/KeyRange.ts"
import type { Event } from "../../values/Watch.ts"
import * as internals from "../kv/internals.ts"
import * as modifies from "../kv/modify.ts"
import * as json from "../values/json.ts"
import type { Snapshot as RangeSnapshot } from "../view/model.ts"
import * as rangeView from "../view/rangeView.ts"
import type { Codec } from "./codec.ts"
import type { DecodeError } from "./collectionErrors.ts"
import type { Change, Item, KvCollection, Snapshot } from "./model.ts"

/** A class because of `toJSON` and `inspect`: items are logged, and values may be secrets. */
class ItemOf<K, V> implements Item<K, V> {
  readonly key: K
  readonly value: V
  readonly revision: bigint
  readonly createRevision: bigint
  readonly lease: Option.Option<bigint>

  constructor(key: K, value: V, entry: Entry) {
    this.key = key
    this.value = value
    this.revision = entry.modRevision
    this.createRevision = entry.createRevision
    this.lease = entry.lease
  }

  toJSON(): unknown {
    return { _id: "Item", ...json.fieldsOf(this), value: "<redacted>" }
  }

  toString(): string {
    return JSON.stringify(this.toJSON())
  }

  [NodeInspectSymbol](): unknown {
    return this.toJSON()
  }
}

export const make = <K, V>(kv: Kv, prefix: string, codec: Codec<K, V>): KvCollection<K, V> => {
  const { backend, origin, sessions } = internals.of(kv)
  const modify = modifies.make(backend, origin)
  const range = KeyRange.prefix(prefix)

  const itemOf = (entry: Entry): Effect.Effect<Item<K, V>, DecodeError> =>
    Effect.flatMap(
      codec.decodeKey(entry.key, entry.modRevision),
      (key) => Effect.map(codec.decodeValue(entry), (value) => new ItemOf(key, value, entry))
    )

  const resultsOf = (entries: Iterable<Entry>, decode = (entry: Entry) => Effect.result(itemOf(entry))) =>
    Effect.forEach([...entries].filter(({ key }) => codec.isMember(key)), decode)

  const getItem: KvCollection<K, V>["getItem"] = (key) =>
    Effect.flatMap(codec.encodeKey(key), (encoded) =>
      Effect.flatMap(
        kv.getEntry(encoded),
        Option.match({
          onNone: () => Effect.succeed(Option.none()),
          onSome: (entry) => Effect.map(codec.decodeValue(entry), (value) => Option.some(new ItemOf(key, value, entry)))
        })
      ))

  const updateSome: KvCollection<K, V>["updateSome"] = (key, f) =>
    Effect.flatMap(codec.encodeKey(key), (encoded) =>
      modify(encoded, (current) =>
        Effect.gen(function*() {
          const text = yield* Effect.option(current.text)
          // Text that is not UTF-8 is not JSON either.
          const known = Option.getOrElse(text, () => Option.some(""))
          const decoded = Option.isNone(known)
            ? Option.none<V>()
            : Option.some(yield* codec.decodeText(encoded, current.modRevision, known.value))
          const result = f(decoded)
          return {
            text: Option.isNone(result) ? Option.none() : Option.some(yield* codec.encodeValue(result.value)),
            result
          }
        })))

  const changeOf = (event: Event): Effect.Effect<Change<K, V>> =>
    event._tag === "Put"
      ? Effect.map(
        Effect.result(itemOf(event.entry)),
        (item) => ({ _tag: "Put", revision: event.entry.modRevision, item })
      )
      : Effect.map(
        Effect.result(codec.decodeKey(event.key, event.revision)),
        (key) => ({ _tag: "Delete", revision: event.revision, key })
      )

  return {
    prefix,
    getItem,
    get: (key) => Effect.map(getItem(key), Option.map(({ value }) => value)),
    put: (key, value, options) =>
      Effect.gen(function*() {
        const encoded = yield* codec.encodeKey(key)
        const { revision } = yield* kv.put(encoded, yield* codec.encodeValue(value), options)
        return revision
      }),
    update: (key, f) => Effect.map(updateSome(key, (current) => Option.some(f(current))), Option.getOrThrow),
    updateSome,
    delete: (key) =>
      Effect.flatMap(codec.encodeKey(key), (encoded) => Effect.map(kv.delete(encoded), ({ deleted }) => deleted > 0)),
    list: Stream.runCollect(kv.rangeStream(range)).pipe(
      // The revision of the first page may be compacted before the last page is read. Any later revision is as good.
      Effect.retry({ while: ({ reason }) => reason._tag === "Compacted", times: 3 }),
      Effect.flatMap((entries) => resultsOf(entries))
    ),
    watch: (options) =>
      kv.watch(range, options).pipe(
        Stream.filter(({ key }) => codec.isMember(key)),
        Stream.mapEffect(changeOf)
      ),
    view: Effect.map(sessions.onClock(rangeView.open(backend, range)), (view) => {
      const known = new WeakMap<Entry, Result.Result<Item<K, V>, DecodeError>>()
      // An entry stays the same object until it changes, so each is decoded once.
      const decoded = (entry: Entry) => {
        const result = known.get(entry)
        return result !== undefined
          ? Effect.succeed(result)
          : Effect.tap(Effect.result(itemOf(entry)), (result) => Effect.sync(() => known.set(entry, result)))
      }
      const snapshotOf = ({ entries, revision }: RangeSnapshot): Effect.Effect<Snapshot<K, V>> =>
        Effect.map(resultsOf(entries.values(), decoded), (items) => ({ revision, items }))
      const changes = Stream.mapEffect(view.changes, snapshotOf)
      return {
        get: (key) =>
          Effect.gen(function*() {
            const entry = yield* view.get(yield* codec.encodeKey(key))
            if (Option.isNone(entry)) return Option.none()
            const { value } = yield* Effect.fromResult(yield* decoded(entry.value))
            return Option.some(value)
          }),
        snapshot: Effect.flatMap(view.snapshot, snapshotOf),
        changes,
        waitUntil: (predicate) => changes.pipe(Stream.filter(predicate), Stream.runHead, Effect.map(Option.getOrThrow))
      }
    })
  }
}
