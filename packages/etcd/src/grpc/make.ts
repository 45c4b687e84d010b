/**
 * The constructor of channels: the edge between Effect and the synchronous `ChannelState`.
 *
 * One fiber per channel connects while a connection is needed. A unary call is one `Effect.callback`: no fiber,
 * no scope, no race.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import { ChannelState } from "./channel.ts"
import * as connect from "./connect.ts"
import { PingPace } from "./keepAlive.ts"
import * as resolve from "./resolve.ts"
import { StreamCall } from "./stream.ts"
import * as target from "./target.ts"
import type { CallOptions, Channel, ChannelOptions, DuplexStream, Failure, OnOutcome } from "./Transport.ts"
import { UnaryCall } from "./unary.ts"

/** Opens a channel. It connects when it is first used. Closing the scope ends all calls, and closes all sockets. */
export const make = Effect.fnUntraced(function*(
  options: ChannelOptions
): Effect.fn.Return<Channel, never, Scope.Scope> {
  const fork = Effect.runForkWith(yield* Effect.context())
  const connector = connect.make(connectOptions(options), new PingPace())
  const backoff = backoffOf(options)
  let fiber: Fiber.Fiber<void> | undefined
  const state: ChannelState = new ChannelState(
    {
      scheme: options.target.secure ? "https" : "http",
      authority: target.authority(options.target, options.tls?.serverName)
    },
    options.maxMessageSize ?? 4 * 1024 * 1024,
    {
      connect: (afterBackoff) => {
        if (fiber !== undefined) return
        const started = fork(connecting(state, connector, backoff, afterBackoff))
        fiber = started
        started.addObserver(() => {
          if (fiber !== started) return
          fiber = undefined
          state.afterConnecting()
        })
      },
      longestBackoff: backoff.longest,
      stopConnecting: () => {
        const stopped = fiber
        fiber = undefined
        stopped?.interruptUnsafe()
      },
      onSilent: options.onSilent ?? ignore,
      onReplaced: options.onReplaced ?? ignore
    }
  )
  yield* Effect.addFinalizer(() =>
    Effect.suspend(() => {
      const connections = state.close()
      const stopped = fiber === undefined ? Effect.void : Fiber.interrupt(fiber)
      const gone = Effect.forEach(connections, (connection) =>
        Effect.callback<void>((resume) => connection.onceGone(() => resume(Effect.void))), {
        concurrency: "unbounded",
        discard: true
      })
      return Effect.andThen(stopped, gone)
    })
  )
  const settle = Effect.callback<void>((resume) => {
    const forget = state.onceSettled(() => resume(Effect.void))
    // Must come last, because connecting may fail at once.
    if (state.isSettled()) {
      forget()
      return resume(Effect.void)
    }
    return Effect.sync(forget)
  })
  return {
    target: options.target,
    state: () => state.state,
    isSettled: () => state.isSettled(),
    settle,
    problem: () => state.problem,
    reconnect: () => state.reconnect(),
    check: () => state.check(),
    drain: Effect.callback((resume) => {
      state.drain()
      return Effect.sync(state.onceEmpty(() => resume(Effect.void)))
    }),
    unary: (path, message, options = noOptions) => unary(state, path, message, options, asExit),
    unaryMatch: (path, message, options, on) => unary(state, path, message, options, on),
    stream: Effect.fnUntraced(function*(path, listener, options = noOptions) {
      const scope = yield* Effect.scope
      const handle: { call: StreamCall | undefined } = { call: undefined }
      // Before opening the stream, so that no interruption can come in between.
      yield* Scope.addFinalizer(scope, Effect.sync(() => handle.call?.cancel()))
      return yield* Effect.callback<DuplexStream, Failure>((resume) => {
        const call = handle.call = new StreamCall(state, path, listener, options, resume)
        state.submit(call)
        return Effect.sync(() => call.cancel())
      })
    })
  }
})

const unary = <A, E>(
  state: ChannelState,
  path: string,
  message: Uint8Array,
  options: CallOptions,
  on: OnOutcome<A, E>
): Effect.Effect<A, E> =>
  Effect.callback((resume) => {
    const call = new UnaryCall(state, path, message, options, on, resume)
    state.submit(call)
    return Effect.sync(() => call.cancel())
  })

const noOptions = {}

const asExit: OnOutcome<Buffer, Failure> = { onSuccess: Exit.succeed, onFailure: Exit.fail }

const ignore = (): void => {}

/** Connects, repeatedly and with growing waits, while a connection is needed. */
const connecting = Effect.fnUntraced(function*(
  state: ChannelState,
  connector: ReturnType<typeof connect.make>,
  backoff: Backoff,
  afterBackoff: boolean
) {
  let waits = afterBackoff
  let startedAt = Number.POSITIVE_INFINITY
  while (true) {
    if (waits) {
      // An attempt that ran into its time limit has taken longer than any wait.
      const isOverdue = performance.now() - startedAt >= backoff.longest
      if (!isOverdue) yield* Effect.sleep(delay(backoff, state.failures, yield* Random.next))
      if (!state.isNeededAgain()) return
    }
    waits = true
    startedAt = performance.now()
    // No interruption may come between opening the connection and handing it to its owner.
    const isConnected = yield* Effect.uninterruptibleMask((restore) =>
      Effect.match(Effect.catchDefect(restore(connector(state.avoid)), (defect) => Effect.fail(String(defect))), {
        onSuccess: (connection) => {
          state.connected(connection)
          return true
        },
        onFailure: (problem) => {
          state.notConnected(problem)
          return false
        }
      })
    )
    if (isConnected) return
  }
})

/** In milliseconds. */
interface Backoff {
  readonly first: number
  readonly longest: number
}

/** The wait after this many failures, from a random number between 0 and 1. */
export const delay = ({ first, longest }: Backoff, failures: number, random: number): number =>
  Math.min(first * 2 ** Math.max(failures - 1, 0), longest) * (0.5 + random / 2)

const millis = (input: Duration.Input | undefined, fallback: number): number =>
  input === undefined ? fallback : Duration.toMillis(Duration.fromInputUnsafe(input))

const backoffOf = ({ connect }: ChannelOptions): Backoff => ({
  first: millis(connect?.backoff?.first, 100),
  longest: millis(connect?.backoff?.longest, 1500)
})

const connectOptions = (options: ChannelOptions): connect.ConnectOptions => ({
  target: options.target,
  tls: options.tls,
  resolve: options.resolve ?? resolve.system,
  timeout: millis(options.connect?.timeout, 5000),
  nextAddressAfter: millis(options.connect?.nextAddressAfter, 250),
  sameAddressAfter: millis(options.connect?.sameAddressAfter, 1000),
  window: {
    stream: options.window?.stream ?? 4 * 1024 * 1024,
    connection: options.window?.connection ?? 16 * 1024 * 1024
  },
  keepAlive: {
    time: millis(options.keepAlive?.time, 10_000),
    timeout: millis(options.keepAlive?.timeout, 5000),
    minimumInterval: millis(options.keepAlive?.minimumInterval, 5000),
    suspectAfter: millis(options.keepAlive?.suspectAfter, 1000),
    checkIdleAfter: millis(options.keepAlive?.checkIdleAfter, 10_000)
  }
})
