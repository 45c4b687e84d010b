/**
 * The channels to one endpoint.
 *
 * Watches have their own channels, so that a long catch-up delays neither responses to calls nor lease renewals.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Grpc from "../../grpc/make.ts"
import * as Target from "../../grpc/target.ts"
import type { Channel } from "../../grpc/Transport.ts"
import type { Settings } from "../settings.ts"

export type ChannelName = "calls" | "watches" | "wholeWatches"

export interface Channels extends Record<ChannelName, Channel> {
  /** Requests and their responses, of any size. */
  readonly calls: Channel
  /** Watch streams. */
  readonly watches: Channel
  /** Watch streams whose responses may be of any size. */
  readonly wholeWatches: Channel
}

/** The events of an endpoint's connections. */
export interface Listener {
  /** A connection responds neither to calls nor to a ping. */
  readonly onSilent: () => void
  /** Another connection has replaced a silent one. */
  readonly onReplaced: () => void
}

/**
 * etcd sends up to 1000 revisions in one message to a watch that catches up. Above this limit the watch moves to its
 * own stream (see `watchPool.ts`). With 128 events of 150 bytes per revision such a message has 19 MiB.
 */
const watchLimit = 24 * 1024 * 1024

/** Opens the channels to an endpoint. They connect on first use. */
export const open = Effect.fnUntraced(function*(
  address: string,
  { keepAlive, tls }: Settings,
  listener: Listener
): Effect.fn.Return<Channels, never, Scope.Scope> {
  const target = Option.getOrThrow(Target.fromUrl(address))
  const channel = (name: ChannelName, maxMessageSize: number): Effect.Effect<Channel, never, Scope.Scope> =>
    Grpc.make({
      target,
      tls,
      maxMessageSize,
      onSilent: listener.onSilent,
      onReplaced: () => {
        listener.onReplaced()
        // The cause that dropped one connection has probably dropped the others.
        for (const other of names) if (other !== name) channels[other].check()
      },
      connect: { backoff: { first: 25, longest: 1000 } },
      keepAlive: {
        ...keepAlive,
        // etcd closes connections that ping more than twice within 5 seconds of each other.
        minimumInterval: 5500,
        suspectAfter: 500,
        // Middleboxes keep a silent flow for longer than this.
        checkIdleAfter: 20_000
      }
    })
  const channels: Channels = {
    calls: yield* channel("calls", Number.POSITIVE_INFINITY),
    watches: yield* channel("watches", watchLimit),
    wholeWatches: yield* channel("wholeWatches", Number.POSITIVE_INFINITY)
  }
  return channels
})

const names: ReadonlyArray<ChannelName> = ["calls", "watches", "wholeWatches"]
