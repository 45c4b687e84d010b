/**
 * The transport on real etcd servers: this project's messages over this project's wire.
 */
import * as KeyRange from "@effect-kv/core/KeyRange"
import * as Op from "@effect-kv/core/Op"
import { EtcdCluster, TcpProxy, TestCertificates } from "@effect-kv/test-suite/verification"
import { assert, layer } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import * as Grpc from "../../src/grpc/make.ts"
import { Status } from "../../src/grpc/status.ts"
import * as Target from "../../src/grpc/target.ts"
import type * as Transport from "../../src/grpc/Transport.ts"
import { decodeResponse } from "../../src/internal/watch/watchDecode.ts"
import { encodePut, encodeRange } from "../../src/internal/wire/codec.ts"
import { decodePut, decodeRange } from "../../src/internal/wire/responses.ts"
import { Writer } from "../../src/internal/wire/wireWriter.ts"
import { timedWithoutStalls } from "../support/stalls.ts"

const connect = (endpoint: string, options: Partial<Transport.ChannelOptions> = {}) =>
  Grpc.make({ target: Option.getOrThrow(Target.fromUrl(endpoint)), ...options })

const put = (channel: Transport.Channel, key: string, value: string | Uint8Array) =>
  Effect.map(channel.unary("/etcdserverpb.KV/Put", encodePut(Op.put(key, value)), { timeout: 10_000 }), decodePut)

const range = (channel: Transport.Channel, of: KeyRange.KeyRange, options?: Transport.CallOptions) =>
  Effect.map(channel.unary("/etcdserverpb.KV/Range", encodeRange(Op.range(of)), options), decodeRange)

/** A request with one number in field 1. */
const withNumber = (value: bigint): Buffer => {
  const writer = new Writer()
  writer.int64(value)
  writer.varint(0x08)
  return writer.finish()
}

/** The first number in field 2 of a response: a lease's id, or the TTL of a keep-alive at field 3. */
const numberAt = (message: Buffer, field: number): bigint => {
  // The header, field 1, comes first.
  let at = 2 + message[1]!
  while (at < message.length) {
    const tag = message[at++]!
    let value = 0n
    let shift = 0n
    let byte
    do {
      byte = message[at++]!
      value |= BigInt(byte & 0x7f) << shift
      shift += 7n
    } while (byte >= 0x80)
    if (tag >> 3 === field) return value
  }
  return 0n
}

const watchRequest = (key: string): Buffer => {
  const writer = new Writer()
  writer.content(0x0a, key)
  writer.message(0x0a, 0)
  return writer.finish()
}

layer(EtcdCluster.layer(), { excludeTestServices: true, timeout: "60 seconds" })((it) => {
  it.effect("the transport puts and reads on a real server, 500 calls at a time, on one connection", () =>
    Effect.gen(function*() {
      const { endpoints } = yield* EtcdCluster.EtcdCluster
      const channel = yield* connect(endpoints[0]!)
      const keys = Array.from({ length: 500 }, (_, i) => `grpc/${i}`)
      yield* Effect.forEach(keys, (key) => put(channel, key, key), { concurrency: "unbounded", discard: true })
      const found = yield* Effect.forEach(keys, (key) => range(channel, KeyRange.key(key)), {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(found.map(({ entries }) => entries[0]!.lossyText), keys)
      assert.strictEqual((yield* range(channel, KeyRange.prefix("grpc/"))).count, 500)
    }))

  it.effect("the transport receives 20 MB in one response if the limit allows it, and names the limit otherwise", () =>
    Effect.gen(function*() {
      const { endpoints } = yield* EtcdCluster.EtcdCluster
      const channel = yield* connect(endpoints[0]!)
      const value = Buffer.alloc(1024 * 1024, 7)
      yield* Effect.forEach(Array.from({ length: 20 }, (_, i) => i), (i) => put(channel, `large/${i}`, value), {
        concurrency: "unbounded",
        discard: true
      })
      const failure = yield* Effect.flip(range(channel, KeyRange.prefix("large/")))
      assert.strictEqual(failure.code, Status.RESOURCE_EXHAUSTED)
      assert.match(failure.details, /the limit \(maxMessageSize\) is 4194304 bytes/)
      const found = yield* range(channel, KeyRange.prefix("large/"), { maxMessageSize: 32 * 1024 * 1024 })
      assert.isTrue(found.entries.every((entry) => entry.size === value.length))
    }))

  it.effect("the transport reports etcd's own errors with their code and text", () =>
    Effect.gen(function*() {
      const { endpoints } = yield* EtcdCluster.EtcdCluster
      const channel = yield* connect(endpoints[0]!)
      const failure = yield* Effect.flip(channel.unary("/etcdserverpb.Lease/LeaseRevoke", withNumber(404n)))
      assert.deepStrictEqual([failure.code, failure.details], [
        Status.NOT_FOUND,
        "etcdserver: requested lease not found"
      ])
      const unknown = yield* Effect.flip(channel.unary("/etcdserverpb.Nothing/Nothing", Buffer.alloc(0)))
      assert.strictEqual(unknown.code, Status.UNIMPLEMENTED)
    }))

  it.effect("a lease is granted by a unary call, and kept alive by a unary call of the streaming method", () =>
    Effect.gen(function*() {
      const { endpoints } = yield* EtcdCluster.EtcdCluster
      const channel = yield* connect(endpoints[0]!)
      const granted = yield* channel.unary("/etcdserverpb.Lease/LeaseGrant", withNumber(60n))
      const id = numberAt(granted, 2)
      const kept = yield* channel.unary("/etcdserverpb.Lease/LeaseKeepAlive", withNumber(id))
      assert.strictEqual(numberAt(kept, 2), id)
      assert.strictEqual(numberAt(kept, 3), 60n)
    }))

  it.effect("a watch delivers 3,000 puts in order over a stream, however often it is paused", () =>
    Effect.gen(function*() {
      const { endpoints } = yield* EtcdCluster.EtcdCluster
      const channel = yield* connect(endpoints[0]!)
      const responses = yield* Queue.unbounded<ReturnType<typeof decodeResponse>>()
      const stream: Transport.DuplexStream = yield* channel.stream("/etcdserverpb.Watch/Watch", {
        onMessage: (message) => {
          stream.pause()
          Queue.offerUnsafe(responses, decodeResponse(Buffer.from(message)))
          setImmediate(() => stream.resume())
        },
        onEnd: (failure) => assert.fail(failure?.details ?? "the watch ended")
      })
      stream.send(watchRequest("watched"))
      assert.isTrue((yield* Queue.take(responses)).created)
      const writing = Effect.forEach(
        Array.from({ length: 3000 }, (_, i) => i),
        (i) => put(channel, "watched", `${i}`),
        { concurrency: 50, discard: true }
      )
      yield* Effect.forkChild(writing)
      let last = 0n
      for (let count = 0; count < 3000;) {
        for (const { kv } of (yield* Queue.take(responses)).events) {
          assert.isTrue(kv.modRevision > last)
          last = kv.modRevision
          count += 1
        }
      }
    }))

  it.effect("of 2,000 puts over connections that keep breaking, each that succeeds is applied, and none that was not sent is applied", () =>
    Effect.gen(function*() {
      const cluster = yield* EtcdCluster.EtcdCluster
      const proxy = yield* TcpProxy.make({ target: cluster.endpoints[0]! })
      const channel = yield* connect(proxy.endpoint)
      const from = (yield* cluster.revision) + 1n
      let applied = 0
      const notSent = yield* Deferred.make<void>()
      // Once the server cannot be reached until a put was given up before there was a connection: how long that takes
      // after a cut depends on the machine.
      const breakConnection = (nth: number) =>
        nth === 200 ? proxy.down.pipe(Effect.andThen(Deferred.await(notSent)), Effect.andThen(proxy.up)) : proxy.cut
      const afterApplied = Effect.suspend(() => ++applied % 20 === 0 ? breakConnection(applied) : Effect.void)
      const ends = yield* Effect.forEach(
        Array.from({ length: 2000 }, (_, i) => i),
        (i) => {
          const progress: Transport.Progress = { delivery: "NotSent" }
          const request = encodePut(Op.put(`breaking/${i % 20}`, `v${i}`))
          // Every third put is interrupted if it takes long.
          const calling = channel.unary("/etcdserverpb.KV/Put", request, { timeout: 5000, progress })
          return Effect.timeoutOption(calling, i % 3 === 0 ? 3 : 10_000).pipe(
            Effect.result,
            Effect.map((result) =>
              Result.isSuccess(result) && Option.isSome(result.success) ? "Applied" : progress.delivery
            ),
            // A call that fails immediately says little about the calls in flight, so it waits before the next.
            Effect.tap((end) =>
              end === "NotSent"
                ? Effect.andThen(Deferred.succeed(notSent, undefined), Effect.sleep("5 millis"))
                : Effect.void
            ),
            Effect.tap((end) => end === "Applied" ? afterApplied : Effect.void)
          )
        },
        { concurrency: 16 }
      )
      const history = yield* cluster.watchFrom(from)
      const counts = new Map<string, number>()
      for (const { value } of yield* history.upTo(yield* cluster.revision)) {
        counts.set(value, (counts.get(value) ?? 0) + 1)
      }
      for (const [i, end] of ends.entries()) {
        const applied = counts.get(`v${i}`) ?? 0
        if (end === "Applied") assert.strictEqual(applied, 1)
        else if (end === "Sent") assert.isAtMost(applied, 1)
        else assert.strictEqual(applied, 0, `put ${i} was ${end}`)
      }
      for (const end of ["Applied", "Sent", "NotSent"]) assert.include(ends, end)
    }))

  it.effect("the transport detects that a member was stopped, and knows which puts were not sent", () =>
    Effect.gen(function*() {
      const cluster = yield* EtcdCluster.make()
      const channel = yield* connect(cluster.endpoints[0]!)
      yield* put(channel, "a", "1")
      yield* cluster.member.kill
      yield* Effect.repeat(Effect.sleep("1 millis"), { until: () => channel.state() !== "Ready" })
      const failure = yield* Effect.flip(put(channel, "a", "2"))
      assert.deepStrictEqual([failure.code, failure.delivery], [Status.UNAVAILABLE, "NotSent"])
      yield* cluster.member.start
      yield* Effect.retry(Effect.tapError(put(channel, "a", "3"), () => Effect.sleep("10 millis")), {
        while: ({ delivery }) => delivery === "NotSent"
      })
      const { entries } = yield* range(channel, KeyRange.key("a"))
      assert.deepStrictEqual([entries[0]!.lossyText, entries[0]!.version], ["3", 2])
    }))

  it.effect("the transport survives SIGSTOP of the server: deadlines hold, and the first call after SIGCONT succeeds", () =>
    Effect.gen(function*() {
      const cluster = yield* EtcdCluster.make()
      const channel = yield* connect(cluster.endpoints[0]!)
      yield* put(channel, "a", "1")
      yield* cluster.member.pause
      // The process may continue to run for a moment.
      yield* Effect.flip(Effect.forever(range(channel, KeyRange.key("a"), { timeout: 1000 })))
      for (let i = 0; i < 3; i++) {
        const [elapsed, failure] = yield* timedWithoutStalls(
          Effect.flip(range(channel, KeyRange.key("a"), { timeout: 1000 }))
        )
        assert.strictEqual(failure.code, Status.DEADLINE_EXCEEDED)
        assert.isBelow(elapsed, 1500)
      }
      yield* cluster.member.resume
      const found = yield* range(channel, KeyRange.key("a"), { timeout: 10_000 })
      assert.strictEqual(found.entries[0]!.lossyText, "1")
    }))

  it.effect("the transport connects to a real server over TLS with a client certificate", () =>
    Effect.gen(function*() {
      const authority = yield* TestCertificates.make()
      const client = yield* authority.client({ commonName: "client" })
      const cluster = yield* EtcdCluster.make({
        tls: { server: yield* authority.server(), ca: authority.ca, client: yield* authority.client() }
      })
      const material = { ca: authority.ca.cert, certificate: client.cert, key: client.key }
      const channel = yield* connect(cluster.endpoints[0]!, { tls: { material: Effect.succeed(material) } })
      yield* put(channel, "tls", "yes")
      assert.strictEqual((yield* range(channel, KeyRange.key("tls"))).entries[0]!.lossyText, "yes")
    }))
})
