/**
 * The decoder of responses, checked against etcd's own definitions as etcd3's protobuf library reads them.
 */
import type * as Entry from "@effect-kv/core/Entry"
import type * as Op from "@effect-kv/core/Op"
import { assert, describe, it } from "@effect/vitest"
import * as grpc from "@grpc/grpc-js"
import { noop } from "cockatiel"
import * as Arbitrary from "effect/Arbitrary"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as etcd3 from "etcd3"
import { Host } from "etcd3/lib/connection-pool.js"
import { NotUtf8 } from "../src/internal/wire/codec.ts"
import * as responses from "../src/internal/wire/responses.ts"

const methods = ((): Record<"range" | "put" | "deleteRange" | "txn", grpc.MethodDefinition<unknown, unknown>> => {
  const host = new Host("127.0.0.1:1", grpc.credentials.createInsecure(), {}, noop)
  return host.getServiceClient("KV") as never
})()

const serialize = (method: keyof typeof methods, response: unknown): Buffer =>
  methods[method].responseSerialize(response)

/** The message as etcd3 decodes it. */
const theirs = <A>(method: keyof typeof methods, message: Buffer): A =>
  methods[method].responseDeserialize(message) as A

const integer = (minimum: number, maximum: number): Arbitrary.Arbitrary<number> =>
  Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum, maximum })))

/** Numbers around the sizes at which their encoding grows by one byte. */
const int64 = Arbitrary.map(
  Arbitrary.all([integer(0, 63), integer(-1, 1)]),
  ([bits, more]) => `${BigInt.asIntN(64, (1n << BigInt(bits)) + BigInt(more))}`
)

const count = Arbitrary.map(integer(0, 52), (bits) => `${2 ** bits}`)

const flag = Arbitrary.map(integer(0, 1), (n) => n === 1)

const text = Arbitrary.map(Arbitrary.schema(Schema.String), (text) => text.toWellFormed())

const bytes = Arbitrary.map(Arbitrary.array(integer(0, 255), { maxLength: 200 }), (bytes) => Buffer.from(bytes))

/** Text, bytes that are not text, and lengths around the limit up to which values are decoded as text. */
const value = Arbitrary.map(
  Arbitrary.all([integer(0, 3), text, bytes, integer(4090, 4100)]),
  ([kind, text, bytes, length]) =>
    kind === 0
      ? bytes
      : kind === 1
      ? Buffer.alloc(length, "é")
      : kind === 2
      ? Buffer.alloc(length, 0xff)
      : Buffer.from(text)
)

const keyValue = Arbitrary.map(
  Arbitrary.all([text, int64, int64, count, value, int64]),
  ([key, create_revision, mod_revision, version, value, lease]) => ({
    key: Buffer.from(key),
    create_revision,
    mod_revision,
    version,
    value,
    lease
  })
)

const header = Arbitrary.map(int64, (revision) => ({
  cluster_id: "18446744073709551615",
  member_id: "1",
  revision,
  raft_term: "7"
}))

const keyValues = Arbitrary.array(keyValue, { maxLength: 3 })

const rangeResponse = Arbitrary.map(
  Arbitrary.all([header, keyValues, flag, count]),
  ([header, kvs, more, count]) => ({ header, kvs, more, count })
)

const putResponse = Arbitrary.map(
  Arbitrary.all([header, keyValue, flag]),
  ([header, kv, has]) => ({ header, prev_kv: has ? kv : null })
)

const deleteResponse = Arbitrary.map(
  Arbitrary.all([header, count, keyValues]),
  ([header, deleted, prev_kvs]) => ({ header, deleted, prev_kvs })
)

const operation = Arbitrary.map(
  Arbitrary.all([integer(0, 2), rangeResponse, putResponse, deleteResponse]),
  ([kind, range, put, del]): object =>
    kind === 0 ? { response_range: range } : kind === 1 ? { response_put: put } : { response_delete_range: del }
)

const operations = Arbitrary.array(operation, { maxLength: 4 })

const txnResponse = Arbitrary.map(
  Arbitrary.all([header, flag, operations, flag, operations, operations]),
  ([header, succeeded, before, inner, nested, after]) => ({
    header,
    succeeded,
    responses: [...before, { response_txn: { header, succeeded: inner, responses: nested } }, ...after]
  })
)

/** The observable fields of an entry. */
const shown = (entry: Entry.Entry) => ({
  key: entry.key,
  value: Buffer.from(entry.value).toString("hex"),
  create: `${entry.createRevision}`,
  mod: `${entry.modRevision}`,
  version: `${entry.version}`,
  lease: `${Option.getOrElse(entry.lease, () => 0n)}`
})

const theirEntry = (kv: etcd3.IKeyValue) => ({
  key: kv.key.toString(),
  value: kv.value.toString("hex"),
  create: kv.create_revision,
  mod: kv.mod_revision,
  version: kv.version,
  lease: kv.lease
})

const ours = (response: Op.Response): object => {
  const revision = `${response.revision}`
  switch (response._tag) {
    case "Range":
      return { revision, entries: response.entries.map(shown), count: `${response.count}`, more: response.more }
    case "Put":
      return { revision, previous: Option.getOrNull(Option.map(response.previous, shown)) }
    case "Delete":
      return { revision, deleted: `${response.deleted}`, previous: response.previous.map(shown) }
    case "Txn":
      return { revision, succeeded: response.succeeded, responses: response.responses.map(ours) }
  }
}

const theirRange = (response: etcd3.IRangeResponse, revision: string) => ({
  revision,
  entries: response.kvs.map(theirEntry),
  count: response.count,
  more: response.more
})

const theirPut = (response: etcd3.IPutResponse, revision: string) => ({
  revision,
  previous: response.prev_kv === null ? null : theirEntry(response.prev_kv)
})

const theirDelete = (response: etcd3.IDeleteRangeResponse, revision: string) => ({
  revision,
  deleted: response.deleted,
  previous: response.prev_kvs.map(theirEntry)
})

/** Every entry in the response has its revision. */
const theirTxn = (response: etcd3.ITxnResponse, revision: string): object => ({
  revision,
  succeeded: response.succeeded,
  responses: response.responses.map((inner: Partial<etcd3.IResponseOp>) =>
    inner.response_range
      ? theirRange(inner.response_range, revision)
      : inner.response_put
      ? theirPut(inner.response_put, revision)
      : inner.response_delete_range
      ? theirDelete(inner.response_delete_range, revision)
      : theirTxn(inner.response_txn!, revision)
  )
})

describe("decoding responses", () => {
  it.prop(
    "responses to reads and writes decode to what etcd3 decodes",
    [rangeResponse, putResponse, deleteResponse],
    ([r, p, d]) => {
      const range = serialize("range", r)
      assert.deepStrictEqual<object>(
        ours(responses.decodeRange(range)),
        theirRange(theirs("range", range), r.header.revision)
      )
      const put = serialize("put", p)
      assert.deepStrictEqual<object>(ours(responses.decodePut(put)), theirPut(theirs("put", put), p.header.revision))
      const deleted = serialize("deleteRange", d)
      assert.deepStrictEqual<object>(
        ours(responses.decodeDelete(deleted)),
        theirDelete(theirs("deleteRange", deleted), d.header.revision)
      )
    },
    { arbitrary: { runs: 500 } }
  )

  it.prop("responses to transactions decode to what etcd3 decodes", [txnResponse], ([response]) => {
    const message = serialize("txn", response)
    assert.deepStrictEqual(
      ours(responses.decodeTxn(message)),
      theirTxn(theirs("txn", message), response.header.revision)
    )
  }, { arbitrary: { runs: 500 } })

  it.prop(
    "decoding terminates with a value or an error, whatever the bytes are",
    [txnResponse, integer(0, 1000), bytes],
    ([response, at, junk]) => {
      const message = serialize("txn", response)
      const cut = at % (message.length + 1)
      for (const broken of [message.subarray(0, cut), Buffer.concat([message.subarray(0, cut), junk])]) {
        for (const decode of Object.values(responses)) {
          try {
            decode(broken)
          } catch (error) {
            assert.instanceOf(error, Error)
          }
        }
      }
    },
    { arbitrary: { runs: 500 } }
  )

  it("the decoder skips unknown fields, and finds the header at any position", () => {
    const body = serialize("txn", { succeeded: true, responses: [{ response_range: { count: "3" } }] })
    const header = serialize("txn", { header: { revision: "9" } })
    // An unknown field of each wire type.
    const unknown = Buffer.from("a20102030aa8019601b1010102030405060708b50101020304", "hex")
    const { responses: [inner], revision, succeeded } = responses.decodeTxn(
      Buffer.concat([unknown, body, unknown, header, unknown])
    )
    assert.deepStrictEqual([revision, succeeded, inner], [9n, true, {
      _tag: "Range",
      revision: 9n,
      entries: [],
      count: 3,
      more: false
    }])
  })

  it("the decoder's error names a key that is not UTF-8", () => {
    const message = serialize("range", { kvs: [{ key: Buffer.from([0x61, 0xff]) }] })
    assert.throws(() => responses.decodeRange(message), NotUtf8, "0x61ff")
  })

  it("a small value does not keep its whole message in memory", () => {
    const kvs = [{ key: Buffer.from("a"), value: Buffer.from([0xff]) }, {
      key: Buffer.from("b"),
      value: Buffer.alloc(9000)
    }]
    const message = serialize("range", { kvs })
    const { entries } = responses.decodeRange(message)
    // Copied values do not change with the message.
    message.fill(0x61)
    assert.deepStrictEqual(entries[0]!.value, Uint8Array.of(0xff))
  })
})
