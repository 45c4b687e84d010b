/**
 * The connections of a channel on a scripted HTTP/2 peer: how they are opened, checked, replaced and closed.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as Net from "node:net"
import { replaced, Reset, Status } from "../../src/grpc/status.ts"
import type * as Transport from "../../src/grpc/Transport.ts"
import { timedWithoutStalls, unlessStalled } from "../support/stalls.ts"
import { bytes, call, channelTo, failureOf, pair, path, responding, start, timed } from "./support/client.ts"
import * as Peer from "./support/Peer.ts"

/** Repeats a call while each failure is certain not to have been processed. */
const untilProcessed = <A>(calling: Effect.Effect<A, Transport.Failure>) =>
  Effect.retry(Effect.tapError(calling, () => Effect.sleep("5 millis")), {
    while: ({ delivery }) => delivery !== "Sent"
  })

const fast = {
  connect: { timeout: "2 seconds", sameAddressAfter: "100 millis", nextAddressAfter: "50 millis" }
} as const

describe("a channel connects", () => {
  it.live("a channel connects when it is first used, and reports its state", () =>
    Effect.gen(function*() {
      const { channel, peer } = yield* pair(responding)
      assert.strictEqual(channel.state(), "Idle")
      const settling = yield* start(channel.settle)
      assert.strictEqual(channel.state(), "Connecting")
      yield* settling.result
      assert.strictEqual(channel.state(), "Ready")
      assert.isTrue(channel.isSettled())
      assert.strictEqual(yield* call(channel), "re: request")
      assert.strictEqual(peer.connections.length, 1)
    }))

  it.live("a channel fails calls at once, as not sent and with the reason, while it waits for its next attempt to connect", () =>
    Effect.gen(function*() {
      const peer = yield* Peer.make(responding)
      yield* peer.stopListening
      const channel = yield* channelTo(peer.port, { connect: { backoff: { first: "1 hour", longest: "1 hour" } } })
      const failure = yield* failureOf(channel)
      assert.deepStrictEqual([failure.code, failure.delivery], [Status.UNAVAILABLE, "NotSent"])
      assert.match(failure.details, new RegExp(`^127.0.0.1:${peer.port}: connect ECONNREFUSED`))
      assert.strictEqual(channel.state(), "Failed")
      assert.strictEqual(channel.problem(), failure.details)
      assert.isTrue(channel.isSettled())
      assert.strictEqual((yield* failureOf(channel)).details, failure.details)
    }))

  it.live("a channel that was idle connects again without the problem of the last time", () =>
    Effect.gen(function*() {
      const peer = yield* Peer.make(responding)
      yield* peer.stopListening
      const channel = yield* channelTo(peer.port, { connect: { backoff: { first: "1 millis", longest: "1 millis" } } })
      assert.match((yield* failureOf(channel)).details, /ECONNREFUSED/)
      yield* Effect.repeat(Effect.yieldNow, { until: () => channel.state() === "Idle" })
      assert.match(channel.problem()!, /ECONNREFUSED/)
      assert.isFalse(channel.isSettled())
      assert.strictEqual(channel.state(), "Connecting")
      assert.isUndefined(channel.problem())
    }))

  it.live("a channel connects again after the server was down", () =>
    Effect.gen(function*() {
      const first = yield* Peer.make(responding)
      const channel = yield* channelTo(first.port)
      yield* call(channel)
      yield* first.stopListening
      first.connections[0]!.socket.destroy()
      yield* Effect.flip(Effect.forever(Effect.andThen(call(channel), Effect.sleep("1 millis"))))
      yield* Effect.retry(Peer.make(responding, { host: "127.0.0.1", port: first.port }), { times: 3 })
      assert.strictEqual(yield* untilProcessed(call(channel)), "re: request")
      assert.strictEqual(channel.problem(), undefined)
    }))

  it.live("a channel whose connections are accepted and ignored connects once new connections work", () =>
    Effect.gen(function*() {
      let swallows = true
      const { channel, peer } = yield* pair({ ...responding, swallow: () => swallows }, fast)
      const calling = yield* start(call(channel, "x", { timeout: 10_000 }))
      yield* peer.connection(1)
      swallows = false
      const [millis, value] = yield* timedWithoutStalls(calling.result)
      assert.deepStrictEqual(value, Result.succeed("re: x"))
      assert.isBelow(millis, 1500)
    }))

  it.live("a channel connects only to peers that send SETTINGS, and gives up on other peers within the limit", () =>
    Effect.gen(function*() {
      const { channel } = yield* pair({ ...responding, settings: null }, { connect: { timeout: "300 millis" } })
      const failure = yield* failureOf(channel)
      assert.strictEqual(failure.delivery, "NotSent")
      assert.strictEqual(failure.details, "no HTTP/2 connection within 300 ms")
    }))

  it.live("a channel reports a peer that closes the connection, speaks HTTP/1.1 or sends garbage", () =>
    Effect.gen(function*() {
      for (const text of ["", "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "\0".repeat(100)]) {
        const { channel } = yield* pair({
          settings: null,
          onConnection: (connection) => void connection.socket.end(text)
        })
        const failure = yield* failureOf(channel)
        assert.strictEqual(failure.delivery, "NotSent", text)
        assert.match(failure.details, /^127\.0\.0\.1:\d+: ./)
      }
    }))

  it.live("a channel tries all addresses of a name, and an address that ignores or rejects connections delays the others only briefly", () =>
    Effect.gen(function*() {
      const swallowing = yield* Peer.make({ swallow: () => true }, { host: "127.0.0.2", port: 0 })
      const good = yield* Peer.make(responding, { host: "127.0.0.4", port: swallowing.port })
      const channel = yield* channelTo(good.port, {
        target: { _tag: "Host", host: "etcd.test", port: good.port, secure: false },
        resolve: () =>
          Effect.succeed(["127.0.0.2", "127.0.0.3", "127.0.0.4"].map((address) => ({ address, family: 4 }))),
        ...fast
      })
      const [millis, value] = yield* timedWithoutStalls(call(channel))
      assert.strictEqual(value, "re: request")
      assert.isBelow(millis, 1000)
      yield* Effect.forEach(
        swallowing.connections,
        (connection) => connection.until(({ isEnded }) => isEnded)
      )
    }))

  it.live("a channel that can connect to no address of a name reports the reason of each", () =>
    Effect.gen(function*() {
      const closed = yield* Peer.make(responding)
      yield* closed.stopListening
      const channel = yield* channelTo(closed.port, {
        target: { _tag: "Host", host: "etcd.test", port: closed.port, secure: false },
        resolve: () => Effect.succeed(["127.0.0.2", "127.0.0.3"].map((address) => ({ address, family: 4 })))
      })
      assert.match((yield* failureOf(channel)).details, /^127\.0\.0\.2:.* ECONNREFUSED.*; 127\.0\.0\.3:.* ECONNREFUSED/)
    }))

  it.live("a channel whose resolver dies waits before the next attempt, and calls fail with the defect", () =>
    Effect.gen(function*() {
      let resolved = 0
      const channel = yield* channelTo(1, {
        target: { _tag: "Host", host: "etcd.test", port: 1, secure: false },
        resolve: () => {
          resolved += 1
          return Effect.die(new Error("a bug"))
        },
        connect: { backoff: { first: "1 hour", longest: "1 hour" } }
      })
      const failure = yield* failureOf(channel)
      assert.deepStrictEqual([failure.delivery, failure.details], ["NotSent", "Error: a bug"])
      yield* failureOf(channel)
      assert.strictEqual(resolved, 1)
    }))

  it.live("a channel resolves a name again when it reconnects", () =>
    Effect.gen(function*() {
      const old = yield* Peer.make(responding, { host: "127.0.0.2", port: 0 })
      const moved = yield* Peer.make(
        { onRequest: (connection, stream) => connection.respond(stream, "moved") },
        { host: "127.0.0.3", port: old.port }
      )
      let address: string | undefined = "127.0.0.2"
      const channel = yield* channelTo(old.port, {
        target: { _tag: "Host", host: "etcd.test", port: moved.port, secure: false },
        resolve: () =>
          address === undefined ? Effect.fail("the resolver is down") : Effect.succeed([{ address, family: 4 }])
      })
      assert.strictEqual(yield* call(channel), "re: request")
      address = undefined
      old.connections[0]!.socket.destroy()
      yield* Effect.repeat(Effect.sleep("1 millis"), { until: () => channel.state() === "Idle" })
      // The last known addresses are used while the resolver fails.
      assert.strictEqual(yield* untilProcessed(call(channel, "x", { timeout: 1000 })), "re: x")
      yield* old.stopListening
      address = "127.0.0.3"
      for (const { socket } of old.connections) socket.destroy()
      assert.strictEqual(
        yield* Effect.retry(Effect.tapError(call(channel), () => Effect.sleep("5 millis")), { times: 1000 }),
        "moved"
      )
    }))

  it.live("the waits between attempts to connect grow up to a limit, and random numbers shorten them", () =>
    Effect.gen(function*() {
      const times: Array<number> = []
      const peer = yield* Peer.make({
        settings: null,
        onConnection: ({ socket }) => {
          times.push(performance.now())
          socket.destroy()
        }
      })
      const random = { nextDoubleUnsafe: () => 1, nextIntUnsafe: () => 1 }
      const channel = yield* Effect.provideService(
        channelTo(peer.port, { connect: { backoff: { first: "40 millis", longest: "160 millis" } } }),
        Random.Random,
        random
      )
      const calling = yield* Effect.forkChild(
        Effect.forever(Effect.andThen(Effect.ignore(call(channel)), Effect.sleep("1 millis")))
      )
      yield* peer.connection(5)
      yield* Fiber.interrupt(calling)
      const waits = times.slice(1).map((time, i) => time - times[i]!)
      const expected = [40, 80, 160, 160, 160]
      for (const [i, wait] of waits.slice(0, 5).entries()) {
        assert.isAtLeast(wait, expected[i]! - 2)
        assert.isBelow(wait, expected[i]! + 2000)
      }
    }))

  it.live("a channel also waits before it reconnects to a server that accepts connections and ends them without a response", () =>
    Effect.gen(function*() {
      const { channel, peer } = yield* pair({ onRequest: (connection) => connection.socket.destroy() }, {
        connect: { backoff: { first: "10 minutes", longest: "10 minutes" } }
      })
      assert.strictEqual((yield* failureOf(channel)).delivery, "Sent")
      yield* peer.connections[0]!.until(({ socket }) => socket.closed)
      assert.strictEqual((yield* failureOf(channel)).delivery, "NotSent")
      assert.strictEqual(peer.connections.length, 1)
    }))

  it.live("a channel connects at once after a connection without a response that lasted longer than the longest wait", () =>
    Effect.gen(function*() {
      const backoff = { first: "100 millis", longest: "100 millis" } as const
      const { channel, peer } = yield* pair({
        onRequest: (connection, stream) => connection.index === 0 || connection.respond(stream)
      }, { connect: { backoff } })
      const hanging = yield* start(failureOf(channel))
      const connection = yield* peer.connection(0)
      yield* connection.until(({ requests }) => requests.size === 1)
      yield* Effect.sleep("100 millis")
      connection.socket.destroy()
      yield* hanging.result
      assert.strictEqual(channel.state(), "Idle")
      assert.strictEqual(yield* call(channel), "response")
    }).pipe(Effect.scoped, unlessStalled(1000)))

  it.live("a channel whose idle connection the server half-closes connects again for the next call", () =>
    Effect.gen(function*() {
      const { channel, peer } = yield* pair(responding)
      yield* call(channel)
      const connection = yield* peer.connection(0)
      connection.socket.end()
      yield* connection.until(({ isEnded }) => isEnded)
      yield* Effect.repeat(Effect.sleep("1 millis"), { until: () => channel.state() === "Idle" })
      assert.strictEqual(yield* call(channel), "re: request")
      assert.strictEqual(peer.connections.length, 2)
    }))

  it.live("a channel ignores the proxy that the environment names", () =>
    Effect.gen(function*() {
      const names = ["http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"]
      const before = names.map((name) => process.env[name])
      for (const name of names) process.env[name] = "http://127.0.0.1:1"
      const { channel } = yield* pair(responding)
      assert.strictEqual(yield* call(channel), "re: request")
      names.forEach((name, i) => before[i] === undefined ? delete process.env[name] : process.env[name] = before[i])
    }))
})

describe("a channel respects the server's limit on streams", () => {
  it.live("calls beyond the server's stream limit wait in order, and can be cancelled while they wait", () =>
    Effect.gen(function*() {
      const order: Array<string> = []
      const waiting: Array<() => void> = []
      const { channel, peer } = yield* pair({
        settings: { 3: 1 },
        onRequest: (connection, stream, message) => {
          order.push(message.toString())
          waiting.push(() => connection.respond(stream))
        }
      })
      yield* channel.settle
      const progress: Transport.Progress = { delivery: "NotSent" }
      const calls = []
      for (const name of ["a", "b", "cancelled", "c"]) calls.push(yield* start(call(channel, name, { progress })))
      const connection = yield* peer.connection(0)
      yield* connection.until(() => order.length === 1)
      progress.delivery = "NotSent"
      yield* Fiber.interrupt(calls[2]!.fiber)
      assert.strictEqual(progress.delivery, "NotSent")
      for (const length of [1, 2, 3]) {
        yield* connection.until(() => order.length === length)
        waiting.shift()!()
      }
      for (const index of [0, 1, 3]) assert.isTrue(Result.isSuccess(yield* calls[index]!.result))
      assert.deepStrictEqual(order, ["a", "b", "c"])
    }))

  it.live("a call beyond the server's stream limit fails as not sent at its deadline", () =>
    Effect.gen(function*() {
      const { channel } = yield* pair({ settings: { 3: 1 } })
      yield* start(call(channel))
      yield* channel.settle
      const failure = yield* failureOf(channel, { timeout: 30 })
      assert.deepStrictEqual([failure.code, failure.delivery], [Status.DEADLINE_EXCEEDED, "NotSent"])
    }))

  it.live("a raised stream limit takes effect at once", () =>
    Effect.gen(function*() {
      const { channel, peer } = yield* pair({ settings: { 3: 1 } })
      yield* channel.settle
      yield* start(call(channel))
      yield* start(call(channel))
      const connection = yield* peer.connection(0)
      yield* connection.until(({ requests }) => requests.size === 1)
      connection.settings({ 3: 2 })
      yield* connection.until(({ requests }) => requests.size === 2)
    }))
})

describe("a channel detects that its connection is dead", () => {
  const keepAlive = { time: "100 millis", timeout: "300 millis", suspectAfter: "100 millis" } as const

  /** On a busy machine, a live peer must not become suspect. */
  const patient = { suspectAfter: "500 millis", minimumInterval: "50 millis", timeout: "20 seconds" } as const

  it.live("calls go to a second connection while the first one is silent, and calls on the first complete if it recovers", () =>
    Effect.gen(function*() {
      let isDeaf = false
      const { channel, peer } = yield* pair({
        isDeaf: (connection) => connection.index === 0 && isDeaf,
        onRequest: (connection, stream, message) =>
          connection.index === 0 && message.toString() === "slow" ? undefined : connection.respond(stream)
      }, { keepAlive: { ...keepAlive, ...patient } })
      yield* call(channel)
      const first = peer.connections[0]!
      isDeaf = true
      const slow = yield* start(call(channel, "slow"))
      yield* peer.connection(1)
      assert.strictEqual(yield* call(channel), "response")
      assert.isFalse(first.socket.destroyed)
      isDeaf = false
      first.respond(3, "late")
      assert.deepStrictEqual(yield* slow.result, Result.succeed("late"))
      yield* first.until(({ isEnded }) => isEnded)
    }))

  it.live("a call that waits for a replacement is sent on the first connection if that recovers earlier", () =>
    Effect.gen(function*() {
      let isDeaf = false
      let swallows = false
      const { channel, peer } = yield* pair({
        swallow: () => swallows,
        isDeaf: () => isDeaf,
        onRequest: (connection, stream, message) =>
          message.toString() === "slow" ? undefined : connection.respond(stream, message)
      }, { keepAlive: { ...keepAlive, ...patient }, connect: { timeout: "1 minute" } })
      yield* call(channel)
      swallows = true
      isDeaf = true
      const slow = yield* start(call(channel, "slow"))
      yield* peer.connection(1)
      const next = yield* start(call(channel, "next"))
      isDeaf = false
      peer.connections[0]!.respond(3, "recovered")
      assert.deepStrictEqual(yield* slow.result, Result.succeed("recovered"))
      assert.deepStrictEqual(yield* next.result, Result.succeed("next"))
      yield* peer.connections[1]!.until(({ isEnded }) => isEnded)
    }))

  it.live("a ping that is never acknowledged ends the connection, and its calls as sent", () =>
    Effect.gen(function*() {
      const { channel, peer } = yield* pair({ onFrame: (_, { type }) => type === Peer.Type.PING }, { keepAlive })
      const { millis, value } = yield* timed(failureOf(channel))
      assert.deepStrictEqual([value.code, value.delivery], [Status.UNAVAILABLE, "Sent"])
      assert.match(value.details, /no response to a ping within 300 ms/)
      assert.isAtLeast(millis, 300)
      yield* peer.connections[0]!.until(({ isEnded }) => isEnded)
    }))

  it.live("a slow call on a connection that responds to pings continues, and pings keep their distance", () =>
    Effect.gen(function*() {
      const { channel, peer } = yield* pair({}, { keepAlive: { ...keepAlive, minimumInterval: "400 millis" } })
      const calling = yield* start(call(channel))
      const connection = yield* peer.connection(0)
      yield* connection.until((connection) => connection.count(Peer.Type.PING) === 1)
      const { millis } = yield* timed(connection.until((connection) => connection.count(Peer.Type.PING) === 2))
      assert.isAtLeast(millis, 390)
      assert.strictEqual(peer.connections.length, 1)
      connection.respond(1)
      assert.deepStrictEqual(yield* calling.result, Result.succeed("response"))
    }).pipe(Effect.scoped, unlessStalled(1000)))

  it.live("a call on a connection that was checked a moment ago moves as quickly as any other", () =>
    Effect.gen(function*() {
      let isDeaf = false
      let isSilent = 0
      let isReplaced = 0
      const { channel, peer } = yield* pair({
        ...responding,
        isDeaf: (connection) => isDeaf && connection.index === 0
      }, {
        keepAlive: { ...keepAlive, suspectAfter: "200 millis", minimumInterval: "1 minute", timeout: "1 minute" },
        onSilent: () => isSilent += 1,
        onReplaced: () => isReplaced += 1
      })
      yield* call(channel)
      channel.check()
      yield* peer.connections[0]!.until((connection) => connection.count(Peer.Type.PING) === 1)
      isDeaf = true
      const options = { isRepeatable: true }
      const [millis, value] = yield* timedWithoutStalls(failureOf(channel, options))
      assert.deepStrictEqual([value.details, value.delivery], [replaced, "Sent"])
      assert.isBelow(millis, 5000)
      assert.deepStrictEqual([isSilent, isReplaced], [1, 1])
      assert.strictEqual(yield* call(channel), "re: request")
    }).pipe(Effect.scoped, unlessStalled(1000)))

  it.live("calls without a response that are each too short to make the connection suspect make it suspect together", () =>
    Effect.gen(function*() {
      let isDeaf = false
      const { channel } = yield* pair({
        ...responding,
        isDeaf: (connection) => isDeaf && connection.index === 0
      }, { keepAlive: { ...keepAlive, suspectAfter: "400 millis", timeout: "1 minute" } })
      yield* call(channel)
      isDeaf = true
      const short = Effect.result(call(channel, "short", { timeout: 50 }))
      const [millis] = yield* timedWithoutStalls(Effect.repeat(short, { until: Result.isSuccess }))
      assert.isBelow(millis, 5000)
    }))

  it.live("a connection without streams is not pinged", () =>
    Effect.gen(function*() {
      const { channel, peer } = yield* pair(responding, { keepAlive: { ...keepAlive, suspectAfter: "20 seconds" } })
      yield* call(channel)
      yield* Effect.sleep("300 millis")
      yield* call(channel)
      assert.strictEqual(peer.connections[0]!.count(Peer.Type.PING), 0)
    }).pipe(Effect.scoped, unlessStalled(1000)))

  it.live("repeated checks of a connection ping no more often than servers tolerate", () =>
    Effect.gen(function*() {
      const { channel, peer } = yield* pair(responding, { keepAlive: { minimumInterval: "300 millis" } })
      assert.strictEqual(yield* call(channel), "re: request")
      const connection = yield* peer.connection(0)
      const pings = () => connection.count(Peer.Type.PING)
      const checks = Effect.repeat(Effect.andThen(Effect.sync(() => channel.check()), Effect.sleep("20 millis")), {
        times: 4
      })
      yield* checks
      assert.strictEqual(pings(), 2)
      yield* Effect.sleep("300 millis")
      yield* checks
      assert.strictEqual(pings(), 3)
    }).pipe(Effect.scoped, unlessStalled(1000)))

  it.live("after a long silence a ping precedes the call, which goes to another connection if there is no response", () =>
    Effect.gen(function*() {
      let isDeaf = false
      const { channel, peer } = yield* pair({
        ...responding,
        isDeaf: (connection) => isDeaf && connection.index === 0
      }, {
        keepAlive: { ...keepAlive, suspectAfter: "600 millis", timeout: "5 seconds", checkIdleAfter: "250 millis" }
      })
      const pings = () => peer.connections[0]!.count(Peer.Type.PING)
      yield* call(channel)
      yield* call(channel)
      assert.strictEqual(pings(), 0)
      yield* Effect.sleep("260 millis")
      assert.strictEqual(yield* call(channel, "checked"), "re: checked")
      assert.strictEqual(pings(), 1)
      yield* Effect.sleep("260 millis")
      isDeaf = true
      assert.strictEqual(yield* call(channel, "replaced"), "re: replaced")
      assert.strictEqual(peer.connections.length, 2)
      assert.strictEqual(peer.connections[0]!.requests.size, 3)
    }).pipe(Effect.scoped, unlessStalled(1000)))

  it.live("after ENHANCE_YOUR_CALM pings come half as often", () =>
    Effect.gen(function*() {
      const { channel, peer } = yield* pair({
        onRequest: (connection, stream, message) =>
          message.toString() === "calm"
            ? connection.goaway(stream, Reset.ENHANCE_YOUR_CALM, "too_many_pings")
            : message.toString() === "slow" || connection.respond(stream)
      }, { keepAlive: { ...keepAlive, minimumInterval: "200 millis", timeout: "5 seconds" } })
      yield* call(channel)
      yield* Effect.exit(call(channel, "calm"))
      yield* untilProcessed(call(channel))
      yield* start(call(channel, "slow"))
      const connection = yield* peer.connection(1)
      yield* connection.until(({ requests }) => [...requests.values()].some((request) => request.includes("slow")))
      const before = connection.count(Peer.Type.PING)
      yield* connection.until((connection) => connection.count(Peer.Type.PING) === before + 1)
      const { millis } = yield* timed(connection.until((connection) => connection.count(Peer.Type.PING) === before + 2))
      assert.isAtLeast(millis, 390)
    }))
})

describe("a channel that reconnects", () => {
  it.live("a channel that reconnects moves to another address, and calls on the first connection may end", () =>
    Effect.gen(function*() {
      const name = (text: string): Peer.Script => ({
        onRequest: (connection, stream, message) => message.toString() === "slow" || connection.respond(stream, text)
      })
      const first = yield* Peer.make(name("first"), { host: "127.0.0.2", port: 0 })
      const second = yield* Peer.make(name("second"), { host: "127.0.0.3", port: first.port })
      const channel = yield* channelTo(first.port, {
        target: { _tag: "Host", host: "etcd.test", port: second.port, secure: false },
        resolve: () => Effect.succeed(["127.0.0.2", "127.0.0.3"].map((address) => ({ address, family: 4 })))
      })
      assert.strictEqual(yield* call(channel), "first")
      const slow = yield* start(call(channel, "slow"))
      channel.reconnect()
      assert.strictEqual(channel.state(), "Ready")
      yield* Effect.repeat(call(channel), { until: (text) => text === "second" })
      first.connections[0]!.respond(3, "done")
      assert.deepStrictEqual(yield* slow.result, Result.succeed("done"))
      yield* first.connections[0]!.until(({ isEnded }) => isEnded)
    }))

  it.live("a channel that reconnects keeps its connection if it can open no other", () =>
    Effect.gen(function*() {
      const { channel, peer } = yield* pair(responding)
      yield* call(channel)
      yield* peer.stopListening
      channel.reconnect()
      yield* Effect.repeat(Effect.sleep("1 millis"), { until: () => channel.problem() !== undefined })
      assert.strictEqual(yield* call(channel), "re: request")
    }))
})

describe("a closed channel", () => {
  const handles = () =>
    process.getActiveResourcesInfo().filter((name) => /TCPSocketWrap|TLSWrap|Timeout/.test(name)).length

  /** Builds a channel, runs the effect with it, and closes it. */
  const closing = Effect.fnUntraced(function*(
    script: Peer.Script,
    body: (channel: Transport.Channel, peer: Peer.Peer) => Effect.Effect<unknown, unknown>
  ) {
    const peer = yield* Peer.make(script)
    const scope = yield* Scope.make()
    const channel = yield* Scope.provide(channelTo(peer.port), scope)
    yield* body(channel, peer)
    const pending = yield* start(call(channel, "pending"))
    yield* Scope.close(scope, Exit.void)
    assert.strictEqual(channel.state(), "Closed")
    for (const connection of peer.connections) {
      yield* connection.until(({ isEnded }) => isEnded)
      connection.socket.end()
      yield* connection.until(({ socket }) => socket.closed)
    }
    return { channel, pending: yield* pending.result }
  })

  it.live("a closed channel leaves no socket and no timer, whether it was idle, in use, connecting or waiting to connect", () =>
    Effect.gen(function*() {
      const before = handles()
      yield* Effect.scoped(closing(responding, (channel) => call(channel)))
      yield* Effect.scoped(closing({}, (channel) => start(call(channel, "x", { timeout: 60_000 }))))
      yield* Effect.scoped(
        closing({ swallow: () => true }, (channel, peer) => Effect.andThen(start(call(channel)), peer.connection(0)))
      )
      yield* Effect.scoped(
        closing({ onConnection: ({ socket }) => socket.destroy() }, (channel) => Effect.ignore(call(channel)))
      )
      yield* Effect.scoped(closing({ settings: { 3: 0 } }, (channel) => start(call(channel))))
      yield* Effect.repeat(Effect.sleep("5 millis"), { until: () => handles() <= before, times: 100 })
      assert.isAtMost(handles(), before)
    }))

  it.live("closing a channel fails calls in flight as sent, and waiting and later calls as not sent", () =>
    Effect.gen(function*() {
      const progress: Transport.Progress = { delivery: "NotSent" }
      const { channel, pending } = yield* closing({}, (channel, peer) =>
        Effect.gen(function*() {
          yield* start(call(channel, "in flight", { progress }))
          const connection = yield* peer.connection(0)
          yield* connection.until(({ requests }) => requests.size === 1)
        }))
      assert.strictEqual(progress.delivery, "Sent")
      assert.isTrue(Result.isFailure(pending))
      if (Result.isFailure(pending)) assert.strictEqual(pending.failure.delivery, "Sent")
      const later = yield* Effect.flip(channel.unary(path, bytes("x")))
      assert.deepStrictEqual([later.code, later.delivery, later.details], [
        Status.CANCELLED,
        "NotSent",
        "the channel was closed"
      ])
      yield* channel.settle
      const queued = yield* closing({ swallow: () => true }, () => Effect.void)
      assert.isTrue(Result.isFailure(queued.pending))
      if (Result.isFailure(queued.pending)) assert.strictEqual(queued.pending.failure.delivery, "NotSent")
    }))

  it.live("a closed channel does not connect when its backoff ends", () =>
    Effect.gen(function*() {
      let attempts = 0
      const server = Net.createServer((socket) => {
        attempts += 1
        socket.destroy()
      })
      yield* Effect.acquireRelease(
        Effect.callback<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
        () => Effect.sync(() => server.close())
      )
      const scope = yield* Scope.make()
      const { port } = server.address() as Net.AddressInfo
      const channel = yield* Scope.provide(
        channelTo(port, { connect: { backoff: { first: "20 millis", longest: "20 millis" } } }),
        scope
      )
      yield* Effect.ignore(call(channel))
      yield* Effect.ignore(call(channel))
      yield* Scope.close(scope, Exit.void)
      const seen = attempts
      yield* Effect.sleep("60 millis")
      assert.strictEqual(attempts, seen)
    }))
})
