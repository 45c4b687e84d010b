/**
 * The channels to one endpoint.
 *
 * Watches have channels of their own, so that a long catch-up holds up neither answers to calls nor the renewal of leases.
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

/** What happens to connections of an endpoint. */
export interface Listener {
  /** A connection answers neither calls nor a ping. */
  readonly onSilent: () => void
  /** Another connection has replaced a silent one. */
  readonly onReplaced: () => void
}

/**
 * A watch that catches up is sent up to 1000 revisions in one message, however large they are. Above this limit it goes to
 * a stream of its own (see `watchPool.ts`). With 128 events of 150 bytes a revision such a message is 19 MiB.
 */
const watchLimit = 24 * 1024 * 1024

/** Opens the channels to an endpoint. Nothing is connected before it is used. */
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
        // Whatever dropped one connection has likely dropped the others.
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
