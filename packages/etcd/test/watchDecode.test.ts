/**
 * The decoder of watch responses, checked against etcd's own definitions as etcd3's protobuf library reads them.
 */
import { assert, describe, it } from "@effect/vitest"
import * as grpc from "@grpc/grpc-js"
import { noop } from "cockatiel"
import * as Arbitrary from "effect/Arbitrary"
import * as Schema from "effect/Schema"
import type * as etcd3 from "etcd3"
import { Host } from "etcd3/lib/connection-pool.js"
import { decodeResponse } from "../src/internal/watch/watchDecode.ts"
import type { WireKeyValue } from "../src/internal/wire/keyValue.ts"

const service = new Host("127.0.0.1:1", grpc.credentials.createInsecure(), {}, noop).getServiceClient("Watch")
const definition = (service as unknown as { readonly watch: unknown }).watch as grpc.MethodDefinition<
  etcd3.IWatchRequest,
  etcd3.IWatchResponse
>

/** Encodes like a server: etcd3's definition has both directions. */
const serialize = (message: unknown): Buffer => definition.responseSerialize(message as etcd3.IWatchResponse)

const integer = (minimum: number, maximum: number): Arbitrary.Arbitrary<number> =>
  Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum, maximum })))

/** Numbers around the sizes at which their encoding grows by one byte. */
const revision = Arbitrary.map(
  Arbitrary.all([integer(0, 52), integer(-1, 1)]),
  ([bits, more]) => Math.max(0, 2 ** bits + more)
)

const bytes = Arbitrary.map(Arbitrary.array(integer(0, 255), { maxLength: 200 }), (bytes) => Buffer.from(bytes))

const lease = Arbitrary.map(
  Arbitrary.all([integer(0, 63), integer(-1, 1)]),
  ([bits, more]) => BigInt.asIntN(64, (1n << BigInt(bits)) + BigInt(more))
)

const keyValue = Arbitrary.map(
  Arbitrary.all([bytes, revision, revision, revision, bytes, lease]),
  ([key, create_revision, mod_revision, version, value, lease]) => ({
    key,
    create_revision: `${create_revision}`,
    mod_revision: `${mod_revision}`,
    version: `${version}`,
    value,
    lease: `${lease}`
  })
)

const event = Arbitrary.map(
  Arbitrary.all([integer(0, 1), keyValue, keyValue, integer(0, 1)]),
  ([type, kv, previous, has]) => ({ type, kv, prev_kv: has === 1 ? previous : null })
)

const flag = Arbitrary.map(integer(0, 1), (n) => n === 1)

const response = Arbitrary.map(
  Arbitrary.all([
    revision,
    integer(-1, 300),
    flag,
    flag,
    revision,
    bytes,
    flag,
    Arbitrary.array(event, { maxLength: 5 })
  ]),
  ([revision, watch_id, created, canceled, compact, reason, fragment, events]) => ({
    header: { cluster_id: "18446744073709551615", member_id: "1", revision: `${revision}`, raft_term: "7" },
    watch_id: `${watch_id}`,
    created,
    canceled,
    compact_revision: `${compact}`,
    cancel_reason: reason.toString("hex"),
    fragment,
    events
  })
)

const keyValueOf = (kv: WireKeyValue) => ({
  key: kv.message.subarray(kv.keyStart, kv.keyEnd).toString("hex"),
  value: kv.message.subarray(kv.valueStart, kv.valueEnd).toString("hex"),
  create: `${kv.createRevision}`,
  mod: `${kv.modRevision}`,
  version: `${kv.version}`,
  lease: `${kv.lease}`
})

const theirKeyValueOf = (kv: etcd3.IKeyValue) => ({
  key: kv.key.toString("hex"),
  value: kv.value.toString("hex"),
  create: kv.create_revision,
  mod: kv.mod_revision,
  version: kv.version,
  lease: kv.lease
})

describe("decoding watch responses", () => {
  it.prop("watch responses decode to what etcd3 decodes", [response], ([response]) => {
    const message = serialize(response)
    const ours = decodeResponse(message)
    const theirs = definition.responseDeserialize(message)
    assert.deepStrictEqual(
      {
        clusterId: `${ours.header.clusterId}`,
        memberId: `${ours.header.memberId}`,
        revision: `${ours.header.revision}`,
        watchId: `${ours.watchId}`,
        created: ours.created,
        canceled: ours.canceled,
        compact: `${ours.compactRevision}`,
        reason: ours.cancelReason,
        fragment: ours.fragment,
        hasEvents: ours.hasEvents,
        events: ours.events.map((event) => [
          event.isDelete,
          keyValueOf(event.kv),
          event.previous === undefined ? undefined : keyValueOf(event.previous)
        ])
      },
      {
        clusterId: theirs.header.cluster_id,
        memberId: theirs.header.member_id,
        revision: theirs.header.revision,
        watchId: theirs.watch_id,
        created: theirs.created,
        canceled: theirs.canceled,
        compact: theirs.compact_revision,
        reason: theirs.cancel_reason,
        fragment: theirs.fragment,
        hasEvents: theirs.events.length > 0,
        events: theirs.events.map((event) => [
          event.type === "Delete",
          theirKeyValueOf(event.kv),
          event.prev_kv === null ? undefined : theirKeyValueOf(event.prev_kv)
        ])
      }
    )
  }, { arbitrary: { runs: 1000 } })

  it.prop(
    "decoding terminates with a value or an error, whatever the bytes are",
    [response, integer(0, 1000), bytes],
    ([response, at, junk]) => {
      const message = serialize(response)
      const cut = at % (message.length + 1)
      for (const broken of [message.subarray(0, cut), Buffer.concat([message.subarray(0, cut), junk])]) {
        try {
          void decodeResponse(broken).events
        } catch (error) {
          assert.instanceOf(error, Error)
        }
      }
    },
    { arbitrary: { runs: 1000 } }
  )

  it("the decoder skips unknown fields", () => {
    const known = serialize({ watch_id: "5", created: true, header: { revision: "9" } })
    // An unknown field of each wire type.
    const unknown = Buffer.from("609601690102030405060708720261627d01020304", "hex")
    const decoded = decodeResponse(Buffer.concat([unknown, known, unknown]))
    assert.deepStrictEqual([decoded.watchId, decoded.created, decoded.header.revision], [5, true, 9n])
  })
})
