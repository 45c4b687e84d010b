/**
 * Closes a channel for good.
 *
 * grpc-js (1.14) forgets one case: a connection that failed and waits to be tried again when its channel is closed is tried
 * again all the same. If the server is back by then, it is connected to, and stays so for as long as the server likes, for
 * nobody. A program that opens and closes clients while an endpoint is away would collect such connections.
 */
import type * as grpc from "@grpc/grpc-js"

/** What is meant of a channel of grpc-js is not public. */
interface Internals {
  readonly internalChannel?: {
    readonly subchannelPool?: {
      readonly pool?: Readonly<Record<string, ReadonlyArray<{ readonly subchannel: Subchannel }>>>
    }
  }
}

/** A connection to one address, whether it is connected or not. */
interface Subchannel {
  /** Whether it is to be tried again when its time comes. */
  continueConnecting: boolean
}

export const closeChannel = (channel: grpc.Channel): void => {
  const { internalChannel } = channel as unknown as Internals
  const subchannels = Object.values(internalChannel?.subchannelPool?.pool ?? {}).flat()
  channel.close()
  // Later than what was asked for before, which takes effect in the next tick, and before any timer.
  process.nextTick(() => {
    for (const { subchannel } of subchannels) subchannel.continueConnecting = false
  })
}
