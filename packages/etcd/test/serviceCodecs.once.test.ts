/**
 * The codecs of leases, authentication, status and watch requests, checked against etcd3's own encoder and decoder.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import { assert, describe, it } from "@effect/vitest"
import * as grpc from "@grpc/grpc-js"
import { noop } from "cockatiel"
import * as Arbitrary from "effect/Arbitrary"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { Host } from "etcd3/lib/connection-pool.js"
import { alarmsOf } from "../src/internal/memberStatus.ts"
import { encodeRequest } from "../src/internal/watch/watchEncode.ts"
import * as watchWire from "../src/internal/watch/watchWire.ts"
import { decodeToken, encodeAuthenticate } from "../src/internal/wire/authCodec.ts"
import { bounds } from "../src/internal/wire/codec.ts"
import * as lease from "../src/internal/wire/leaseCodec.ts"
import { decodeMemberList, encodeMemberList } from "../src/internal/wire/memberCodec.ts"
import { decodeStatus } from "../src/internal/wire/statusCodec.ts"

const host = new Host("127.0.0.1:1", grpc.credentials.createInsecure(), {}, noop)

/** The method as etcd3 defines it, for both directions. */
const method = (service: "Lease" | "Auth" | "Cluster" | "Maintenance" | "Watch", name: string) => {
  const definition = (host.getServiceClient(service).constructor as grpc.ServiceClientConstructor).service[name]!
  return {
    received: (request: Buffer): unknown => JSON.parse(JSON.stringify(definition.requestDeserialize(request))),
    encoded: (response: unknown): Buffer => definition.responseSerialize(response)
  }
}

const integer = (minimum: number, maximum: number): Arbitrary.Arbitrary<number> =>
  Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum, maximum })))

/** Numbers around the sizes at which their encoding grows by one byte. */
const int64 = Arbitrary.map(
  Arbitrary.all([integer(0, 62), integer(-1, 1)]),
  ([bits, more]) => (1n << BigInt(bits)) + BigInt(more)
)

const seconds = Arbitrary.map(integer(0, 33), (bits) => 2 ** bits)

const text = Arbitrary.map(Arbitrary.schema(Schema.String), (text) => text.toWellFormed())

const flag = Arbitrary.map(integer(0, 1), (n) => n === 1)

const header = { cluster_id: "18446744073709551615", member_id: "7", revision: "12", raft_term: "3" }

const ourHeader = { clusterId: 18446744073709551615n, memberId: 7n, revision: 12n }

describe("requests", () => {
  it.prop("etcd3 decodes lease requests to the same values", [int64, seconds, flag], ([id, ttl, keys]) => {
    assert.deepStrictEqual(method("Lease", "LeaseGrant").received(lease.encodeGrant(ttl, id)), {
      TTL: `${ttl}`,
      ID: `${id}`
    })
    for (const name of ["LeaseRevoke", "LeaseKeepAlive"]) {
      assert.deepStrictEqual(method("Lease", name).received(lease.encodeId(id)), { ID: `${id}` })
    }
    assert.deepStrictEqual(method("Lease", "LeaseTimeToLive").received(lease.encodeTimeToLive(id, keys)), {
      ID: `${id}`,
      keys
    })
  })

  it.prop("etcd3 decodes authentication requests to the same values", [text, text], ([name, password]) => {
    assert.deepStrictEqual(method("Auth", "Authenticate").received(encodeAuthenticate(name, password)), {
      name,
      password
    })
  })

  it.prop("etcd3 decodes watch requests to the same values", [
    text,
    text,
    int64,
    integer(1, 300),
    flag,
    flag,
    integer(0, 5)
  ], (
    [a, b, from, id, previous, fragment, kind]
  ) => {
    const range = kind % 2 === 0 ? KeyRange.key(`k${a}`) : KeyRange.halfOpen(a, `${a}${b}z`)
    const only = ([undefined, "Put", "Delete"] as const)[kind % 3]
    const { key, range_end } = bounds(range)
    const base64 = (bytes: Buffer | undefined): unknown =>
      JSON.parse(JSON.stringify(bytes === undefined || bytes.length === 0 ? Buffer.alloc(0) : bytes))
    const request = watchWire.create({ range, previous, only }, id, from, fragment)
    const { create_request } = method("Watch", "Watch").received(encodeRequest(request)) as {
      readonly create_request: unknown
    }
    assert.deepStrictEqual(create_request, {
      key: base64(key),
      range_end: base64(range_end),
      start_revision: `${from}`,
      progress_notify: true,
      filters: only === undefined ? [] : [only === "Put" ? "Nodelete" : "Noput"],
      prev_kv: previous,
      watch_id: `${id}`,
      fragment
    })
    const cancelled = method("Watch", "Watch").received(encodeRequest(watchWire.cancel(id))) as {
      readonly cancel_request: unknown
    }
    assert.deepStrictEqual(cancelled.cancel_request, { watch_id: `${id}` })
  })

  // etcd3's definition of the request has no fields, and its definition of a member no `isLearner`.
  it("requests for member lists, and learners in them, have the bytes of etcd's rpc.proto", () => {
    assert.deepStrictEqual(encodeMemberList(true), Buffer.from([0x08, 1]))
    assert.deepStrictEqual(encodeMemberList(false), Buffer.alloc(0))
    const learner = Buffer.from([0x08, 0x05, 0x22, 1, 0x61, 0x28, 1])
    const list = Buffer.concat([Buffer.from([0x12, learner.length]), learner])
    assert.deepStrictEqual(decodeMemberList(list).members, [{ clientUrls: ["a"], isLearner: true }])
  })

  it("etcd3 decodes progress requests to the same values", () => {
    const received = method("Watch", "Watch").received(encodeRequest(watchWire.progress))
    assert.deepStrictEqual((received as { readonly progress_request: unknown }).progress_request, {})
  })
})

describe("responses", () => {
  it.prop("lease responses decode to the values that etcd3 encoded", [
    int64,
    seconds,
    seconds,
    Arbitrary.array(text, { maxLength: 4 })
  ], (
    [id, ttl, granted, keys]
  ) => {
    const granting = method("Lease", "LeaseGrant").encoded({ header, ID: `${id}`, TTL: `${ttl}`, error: "unused" })
    assert.deepStrictEqual(lease.decodeLease(granting), { header: ourHeader, id, ttl, grantedTtl: 0, keys: [] })
    const kept = method("Lease", "LeaseKeepAlive").encoded({ header, ID: `${id}`, TTL: `${ttl}` })
    assert.deepStrictEqual(lease.decodeLease(kept), { header: ourHeader, id, ttl, grantedTtl: 0, keys: [] })
    const living = method("Lease", "LeaseTimeToLive").encoded({
      header,
      ID: `${id}`,
      TTL: `${ttl}`,
      grantedTTL: `${granted}`,
      keys: keys.map((key) => Buffer.from(key))
    })
    const { keys: found, ...rest } = lease.decodeLease(living)
    assert.deepStrictEqual(rest, { header: ourHeader, id, ttl, grantedTtl: granted })
    assert.deepStrictEqual(found.map((key) => key.toString()), keys)
  })

  it("a response that was cut off at any byte is rejected or has no header, and later headers are read as before", () => {
    // Every seven bits of this id are set, so its encoding has long prefixes in common with others.
    const others = { ...header, cluster_id: "18446744073709551614", member_id: "18446744073709551615" }
    for (const fields of [header, others]) {
      const whole = method("Maintenance", "Status").encoded({ header: fields, version: "3.7.0" })
      const read = decodeStatus(whole).header
      for (let length = 1; length < whole.length; length++) {
        // What it returns for a part of a message does not matter.
        Result.try(() => decodeStatus(Buffer.from(whole.subarray(0, length))))
        // A header whose length fits, around an id that is cut off.
        Result.try(() => decodeStatus(Buffer.from([0x0a, length, ...whole.subarray(2, 2 + length)])))
        assert.deepStrictEqual(decodeStatus(whole).header, read)
        assert.deepStrictEqual(
          decodeStatus(method("Maintenance", "Status").encoded({ header, version: "3.7.0" })).header,
          ourHeader
        )
      }
    }
  })

  it("the response for a lease that does not exist has a negative time to live", () => {
    const gone = method("Lease", "LeaseTimeToLive").encoded({ header, ID: "5", TTL: "-1" })
    assert.strictEqual(lease.decodeLease(gone).ttl, -1)
  })

  it.prop(
    "decoding terminates with a value or an error, whatever the bytes are",
    [int64, text, Schema.Uint8Array, integer(0, 1000)],
    ([id, text, junk, at]) => {
      const messages = [
        method("Lease", "LeaseTimeToLive").encoded({ header, ID: `${id}`, TTL: "5", keys: [Buffer.from(text)] }),
        method("Auth", "Authenticate").encoded({ header, token: text }),
        method("Maintenance", "Status").encoded({ header, version: text, dbSize: "7" })
      ]
      for (const message of messages) {
        const cut = message.subarray(0, at % (message.length + 1))
        for (const broken of [cut, Buffer.concat([cut, junk])]) {
          for (const decode of [lease.decodeLease, decodeToken, decodeStatus]) {
            try {
              decode(broken)
            } catch (error) {
              assert.instanceOf(error, Error)
            }
          }
        }
      }
    },
    { arbitrary: { runs: 500 } }
  )

  it("the alarms of a status are named with their members, and an error of another kind is not hidden", () => {
    const alarms = (...errors: ReadonlyArray<string>) =>
      alarmsOf({ errors, header: { ...ourHeader, memberId: 7n } }).map(({ kind, memberId }) => [memberId, kind])
    assert.deepStrictEqual(
      alarms("etcdserver: no leader", "memberID:9372538179322589801 alarm:NOSPACE ", "memberID:5  alarm:CORRUPT"),
      [[9372538179322589801n, "NOSPACE"], [5n, "CORRUPT"]]
    )
    assert.deepStrictEqual(alarms("the disk is on fire"), [[7n, "the disk is on fire"]])
  })

  it.prop("authentication and status responses decode to the values that etcd3 encoded", [text], ([text]) => {
    assert.strictEqual(decodeToken(method("Auth", "Authenticate").encoded({ header, token: text })), text)
    // etcd3 does not know the fields that are newer than itself.
    const status = method("Maintenance", "Status").encoded({ header, version: text, dbSize: "7", leader: "9" })
    const newer = Buffer.from([0x42, 2, 0x6e, 0x6f, 0x48, 5, 0x50, 1, 0x60, 0x90, 0x4e, 0x42, 0])
    assert.deepStrictEqual(decodeStatus(Buffer.concat([status, newer])), {
      header: ourHeader,
      version: text,
      dbSize: 7,
      dbSizeInUse: 5,
      dbSizeQuota: 10_000,
      leader: 9n,
      isLearner: true,
      errors: ["no", ""]
    })
  })

  it.prop(
    "member lists decode to the values that etcd3 encoded",
    [Arbitrary.array(text, { maxLength: 3 })],
    ([urls]) => {
      const members = urls.map((url) => ({
        ID: "18446744073709551615",
        name: url,
        peerURLs: [url],
        clientURLs: [url, url]
      }))
      assert.deepStrictEqual(decodeMemberList(method("Cluster", "MemberList").encoded({ header, members })), {
        header: ourHeader,
        members: urls.map((url) => ({ clientUrls: [url, url], isLearner: false }))
      })
    }
  )
})
