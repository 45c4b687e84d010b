/**
 * The codec of requests, checked against etcd3's own serializers.
 */
import * as Compare from "@effect-kv/core/Compare"
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Kv from "@effect-kv/core/Kv"
import * as Op from "@effect-kv/core/Op"
import * as EtcdClient from "@effect-kv/etcd/EtcdClient"
import { EtcdCluster } from "@effect-kv/test-suite/verification"
import { assert, describe, it, layer } from "@effect/vitest"
import * as grpc from "@grpc/grpc-js"
import { noop } from "cockatiel"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as etcd3 from "etcd3"
import { Host } from "etcd3/lib/connection-pool.js"
import * as codec from "../src/internal/wire/codec.ts"
import * as responses from "../src/internal/wire/responses.ts"
import { reason, services } from "./support/client.ts"

const definition = ((): grpc.ServiceDefinition => {
  const host = new Host("127.0.0.1:1", grpc.credentials.createInsecure(), {}, noop)
  const { service } = host.getServiceClient("KV").constructor as grpc.ServiceClientConstructor
  host.close()
  return service
})()

interface Requests {
  readonly Range: etcd3.IRangeRequest
  readonly Put: etcd3.IPutRequest
  readonly DeleteRange: etcd3.IDeleteRangeRequest
  readonly Txn: etcd3.ITxnRequest
}

/** The request as a server decodes it. */
const received = <Method extends keyof Requests>(method: Method, request: Buffer): Requests[Method] =>
  definition[method]!.requestDeserialize(request) as Requests[Method]

/** The response as a server encodes it. */
const encoded = (method: string, response: unknown): Buffer => definition[method]!.responseSerialize(response)

const keys = [
  "\u0000",
  "\u0000\u0000",
  "\u0001",
  "a",
  "a\u0000",
  "aa",
  "ab",
  "b",
  "é",
  "\uffff",
  "\u{1f600}",
  "\u{10ffff}"
]

/** The keys that etcd selects with these bounds. */
const selected = ({ key, range_end }: codec.Bounds): ReadonlyArray<string> =>
  keys.filter((name) => {
    const bytes = Buffer.from(name)
    if (range_end === undefined) return bytes.equals(key)
    const isOpenEnded = range_end.equals(Buffer.from([0]))
    return bytes.compare(key) >= 0 && (isOpenEnded || bytes.compare(range_end) < 0)
  })

const aKey = Schema.Literals(["", ...keys])
const aRange = Schema.Struct({
  tag: Schema.Literals(["Key", "HalfOpen", "Prefix", "from", "closed"]),
  a: aKey,
  b: aKey
})

const rangeOf = ({ a, b, tag }: typeof aRange.Type): KeyRange.KeyRange => {
  switch (tag) {
    case "Key":
      return KeyRange.key(a)
    case "HalfOpen":
      return KeyRange.halfOpen(a, b)
    case "Prefix":
      return { _tag: "Prefix", prefix: a, from: a + b }
    case "from":
      return KeyRange.from(a)
    case "closed":
      return KeyRange.closed(a, b)
  }
}

describe("ranges", () => {
  it.prop("a range selects the same keys in etcd as here", [aRange], ([input]) => {
    const range = rangeOf(input)
    if (KeyRange.invalid(range) !== undefined) return
    assert.deepStrictEqual(selected(codec.bounds(range)), keys.filter((key) => KeyRange.contains(range, key)))
  }, { arbitrary: { runs: 2000 } })

  it("an empty range stays empty, and does not become the range of all keys", () => {
    assert.deepStrictEqual(selected(codec.bounds(KeyRange.closed("", ""))), [])
    assert.deepStrictEqual(selected(codec.bounds(KeyRange.all)), keys)
  })
})

describe("integers", () => {
  const int64s = [1n, 2n ** 53n + 1n, 2n ** 63n - 1n]

  it("64-bit numbers are exact in requests and in responses", () => {
    for (const n of int64s) {
      const range = received(
        "Range",
        codec.encodeRange(Op.get("a", { revision: n, minModRevision: n, maxCreateRevision: n }))
      )
      assert.deepStrictEqual([range.revision, range.min_mod_revision, range.max_create_revision], [
        `${n}`,
        `${n}`,
        `${n}`
      ])
      assert.strictEqual(received("Put", codec.encodePut(Op.put("a", "", { lease: n }))).lease, `${n}`)
      const txn = received(
        "Txn",
        codec.encodeTxn(Op.txn({ if: [Compare.modRevision("a", "=", n), Compare.lease("a", "<", -n)] }))
      )
      assert.strictEqual(txn.compare?.[0]?.mod_revision, `${n}`)
      assert.strictEqual(txn.compare?.[1]?.lease, `${-n}`)
      const kv = {
        key: Buffer.from("a"),
        value: Buffer.from("v"),
        create_revision: `${n}`,
        mod_revision: `${n}`,
        version: "1",
        lease: `${n}`
      }
      const response = responses.decodeRange(encoded("Range", { header: { revision: `${n}` }, kvs: [kv], count: "1" }))
      assert.strictEqual(response.revision, n)
      const [entry] = response.entries
      assert.deepStrictEqual([entry!.createRevision, entry!.modRevision, entry!.lease], [n, n, Option.some(n)])
    }
  })
})

/** A condition as a server reads it. A value is replaced by its length. */
const compared = ({ key, result, target, target_union, ...rest }: Record<string, unknown>) => {
  const value = String(rest[String(target_union)])
  return [String(key), result, target, value.length, target_union === "value" ? "" : value]
}

describe("operations", () => {
  it.prop("values arrive as the same bytes, given as text or as bytes", [Schema.Uint8Array], ([bytes]) => {
    const padded = new Uint8Array(bytes.length + 2)
    padded.set(bytes, 1)
    const view = padded.subarray(1, bytes.length + 1)
    const put = received("Put", codec.encodePut(Op.put("a", view)))
    assert.isTrue(Buffer.from(bytes).equals(put.value!))
    const txn = received("Txn", codec.encodeTxn(Op.txn({ if: [Compare.value("a", "!=", view)] })))
    assert.isTrue(Buffer.from(bytes).equals(txn.compare![0]!.value!))
  })

  it.prop("keys are decoded exactly, and bytes that are not UTF-8 are rejected", [Schema.String], ([key]) => {
    if (!key.isWellFormed()) return
    assert.strictEqual(codec.decodeKey(Buffer.from(key)), key)
    assert.strictEqual(codec.decodeKey(Buffer.from(`\ufffd${key}\ufeff`)), `\ufffd${key}\ufeff`)
    assert.throws(() => codec.decodeKey(Buffer.concat([Buffer.from(key), Buffer.from([0xff])])), /0x.*ff is not UTF-8/)
  })

  it("a range request has exactly the options that were given", () => {
    const plain = received("Range", codec.encodeRange(Op.range(KeyRange.all)))
    assert.deepStrictEqual(
      [plain.limit, plain.sort_order, plain.keys_only, plain.count_only, plain.serializable, plain.revision],
      ["0", "None", false, false, false, "0"] as never
    )
    const full = received(
      "Range",
      codec.encodeRange(Op.range(KeyRange.all, {
        limit: 3,
        order: { by: "version", direction: "descending" },
        keysOnly: true,
        countOnly: true,
        serializable: true
      }))
    )
    assert.deepStrictEqual(
      [full.limit, full.sort_order, full.sort_target, full.keys_only, full.count_only, full.serializable],
      ["3", "Descend", "Version", true, true, true] as never
    )
    assert.isTrue(received("Put", codec.encodePut(Op.put("a", "", { previous: true }))).prev_kv)
    assert.isFalse(received("DeleteRange", codec.encodeDelete(Op.delete("a"))).prev_kv)
  })

  it("operations arrive with their meaning, nested in transactions and at any size", () => {
    const large = "é".repeat(100_000)
    const compares = [
      Compare.value("a", "=", large),
      Compare.version("b", "!=", 300),
      Compare.createRevision("é", "<", 0n),
      Compare.modRevision("d", ">", 5n),
      Compare.lease("e", "=", -1n)
    ]
    const inner = Op.txn({ if: [], then: [Op.put("k", "v"), Op.deleteRange(KeyRange.prefix("p"))], else: [] })
    const request = received(
      "Txn",
      codec.encodeTxn(Op.txn({
        if: compares,
        then: [Op.put("big", large, { previous: true, lease: 2n ** 62n }), inner, Op.txn({})],
        else: [Op.range(KeyRange.halfOpen("a", "b"), { limit: 2 ** 40 })]
      }))
    )
    assert.deepStrictEqual<unknown>(
      request.compare!.map((compare) => compared({ ...compare })),
      [
        ["a", "Equal", "Value", large.length, ""],
        ["b", "NotEqual", "Version", 3, "300"],
        ["é", "Less", "Create", 1, "0"],
        ["d", "Greater", "Mod", 1, "5"],
        ["e", "Equal", "Lease", 2, "-1"]
      ]
    )
    const [put, nested, empty] = request.success!
    assert.strictEqual(put!.request_put!.value!.toString(), large)
    assert.deepStrictEqual([put!.request_put!.lease, put!.request_put!.prev_kv], [`${2n ** 62n}`, true] as never)
    const [first, second] = nested!.request_txn!.success!
    assert.deepStrictEqual([first!.request_put!.key, first!.request_put!.value].map(String), ["k", "v"])
    assert.deepStrictEqual(
      [second!.request_delete_range!.key, second!.request_delete_range!.range_end].map(String),
      ["p", "q"]
    )
    assert.deepStrictEqual(empty!.request_txn!.success, [])
    const [range] = request.failure!
    assert.deepStrictEqual<unknown>(
      [String(range!.request_range!.key), String(range!.request_range!.range_end), range!.request_range!.limit],
      ["a", "b", `${2 ** 40}`]
    )
    // An earlier request leaves nothing in the encoder.
    assert.deepStrictEqual(codec.encodePut(Op.put("k", "v")), Buffer.from([0x0a, 1, 0x6b, 0x12, 1, 0x76]))
  })

  it("nested transactions return their responses in place, at the outer transaction's revision", () => {
    const header = { revision: "9" }
    const response = responses.decodeTxn(encoded("Txn", {
      header,
      succeeded: true,
      responses: [
        { response_put: { header: { revision: "1" } } },
        { response_txn: { header: {}, succeeded: false, responses: [{ response_delete_range: { deleted: "2" } }] } },
        { response_range: { count: "0" } }
      ]
    }))
    assert.deepStrictEqual(response, {
      _tag: "Txn",
      revision: 9n,
      succeeded: true,
      responses: [
        { _tag: "Put", revision: 9n, previous: Option.none() },
        {
          _tag: "Txn",
          revision: 9n,
          succeeded: false,
          responses: [{ _tag: "Delete", revision: 9n, deleted: 2, previous: [] }]
        },
        { _tag: "Range", revision: 9n, entries: [], count: 0, more: false }
      ]
    } as never)
  })
})

layer(EtcdCluster.layer(), { excludeTestServices: true, timeout: "60 seconds" })((it) => {
  it.effect("another client's key that is not UTF-8 fails the read with that key, and a write that returns it is Indeterminate", () =>
    Effect.gen(function*() {
      const { endpoints } = yield* EtcdCluster.EtcdCluster
      const context = yield* services({ endpoints })
      const kv = Context.get(context, Kv.Kv)
      const etcd3 = yield* Context.get(context, EtcdClient.EtcdClient).etcd3
      yield* kv.put("bytes/a", "1")
      yield* Effect.promise(() => etcd3.kv.put({ key: Buffer.from([0x62, 0x79, 0xff]), value: Buffer.from("2") }))
      const read = yield* reason(kv.range(KeyRange.prefix("by")))
      assert.strictEqual(read._tag, "InvalidRequest")
      assert.include(read.message, "0x6279ff")
      assert.strictEqual(yield* kv.count(KeyRange.prefix("by")), 2)
      const write = yield* reason(kv.deleteRange(KeyRange.prefix("by"), { previous: true }))
      assert.strictEqual(write._tag, "Indeterminate")
      assert.strictEqual(yield* kv.count(KeyRange.prefix("by")), 0)
    }))
})
