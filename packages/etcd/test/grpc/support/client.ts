/** Channels to a scripted peer, and helpers that observe how calls end. */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Grpc from "../../../src/grpc/make.ts"
import type * as Transport from "../../../src/grpc/Transport.ts"
import * as Peer from "./Peer.ts"

export const path = "/test.Service/Method"

export const bytes = (text: string): Buffer => Buffer.from(text)

/** A channel to the port on the loopback address. */
export const channelTo = (port: number, options: Partial<Transport.ChannelOptions> = {}) =>
  Grpc.make({ target: { _tag: "Host", host: "127.0.0.1", port, secure: false }, ...options })

/** A peer with the script, and a channel to it. */
export const pair = Effect.fnUntraced(function*(
  script: Peer.Script,
  options: Partial<Transport.ChannelOptions> = {}
) {
  const peer = yield* Peer.make(script)
  return { peer, channel: yield* channelTo(peer.port, options) }
})

/** The response as text. */
export const call = (channel: Transport.Channel, text = "request", options?: Transport.CallOptions) =>
  Effect.map(channel.unary(path, bytes(text), options), (response) => response.toString())

/** The failure of a call. */
export const failureOf = (channel: Transport.Channel, options?: Transport.CallOptions) =>
  Effect.flip(call(channel, "request", options))

/** A call that runs beside the test. It has been handed to the channel when this returns. */
export const start = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.map(Effect.forkChild(Effect.result(effect), { startImmediately: true }), (fiber) => ({
    fiber,
    result: Fiber.join(fiber)
  }))

export const responding: Peer.Script = {
  onRequest: (connection, stream, message) => connection.respond(stream, `re: ${message.toString()}`)
}

/** How many milliseconds an effect takes. */
export const timed = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const from = performance.now()
    return Effect.map(effect, (value) => ({ value, millis: performance.now() - from }))
  })
