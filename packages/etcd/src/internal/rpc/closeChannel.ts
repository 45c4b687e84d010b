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
  /** Has the session once it is connected. */
  readonly transport?: WithSession | null
  readonly connector?: Connector | null
}

/** A connection that is being made. */
interface Connector extends WithSession {
  /** Called with the socket once it is connected. */
  createSession?: (connected: { readonly socket: { destroy(): void } }) => Promise<never>
}

interface WithSession {
  readonly session?: {
    destroy(): void
    readonly destroyed?: boolean
    readonly socket?: { readonly bytesRead?: number }
  } | null
}

/**
 * Closes a channel whose peer is silent: at once, where `closeChannel` would wait for the peer to agree, with a socket open
 * until the operating system gives up.
 */
export const destroyChannel = (channel: grpc.Channel): void => {
  for (const { subchannel } of subchannelsOf(channel)) subchannel.transport?.session?.destroy()
  closeChannel(channel)
}

/** How many bytes came in over the connection that the channel has now. */
export const bytesReceived = (channel: grpc.Channel): number => {
  let bytes = 0
  for (const { subchannel } of subchannelsOf(channel)) {
    const session = subchannel.transport?.session
    // The socket of a session that has ended cannot be asked.
    if (session?.destroyed === false) bytes += session.socket?.bytesRead ?? 0
  }
  return bytes
}

const subchannelsOf = (channel: grpc.Channel): ReadonlyArray<{ readonly subchannel: Subchannel }> => {
  const { internalChannel } = channel as unknown as Internals
  return Object.values(internalChannel?.subchannelPool?.pool ?? {}).flat()
}

export const closeChannel = (channel: grpc.Channel): void => {
  const subchannels = subchannelsOf(channel)
  for (const { subchannel } of subchannels) abandon(subchannel.connector)
  channel.close()
  // Later than what was asked for before, which takes effect in the next tick, and before any timer.
  process.nextTick(() => {
    for (const { subchannel } of subchannels) subchannel.continueConnecting = false
  })
}

/**
 * grpc-js forgets another case: a socket that gets connected after its channel was closed is neither used nor closed. And the
 * handshake of one that is connected would go on for as long as its peer says nothing.
 */
const abandon = (connector: Connector | null | undefined): void => {
  if (connector === null || connector === undefined) return
  connector.session?.destroy()
  connector.createSession = ({ socket }) => {
    socket.destroy()
    return Promise.reject(new Error("the channel was closed"))
  }
}
