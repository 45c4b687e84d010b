/**
 * The network between the members of a cluster, which can isolate a member from its peers while clients still reach it.
 *
 * Members advertise a proxy in place of their peer port. Each connection between members names its sender in the header
 * `X-Server-From` of its first request, which shows the proxy whether an isolated member opened it. Requests without that
 * header (probes, versions) carry no raft messages.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Net from "node:net"
import { type EtcdClusterError, failure } from "./EtcdClusterError.ts"

/** A member as its peers know it. */
export interface Peer {
  /** Lower-case hexadecimal. */
  readonly id: string
  /** The port that it advertises. */
  readonly port: number
}

export interface PeerNetwork {
  /** Forwards connections from the advertised port to the one that the member listens on. */
  readonly open: (advertised: number, listening: number) => Effect.Effect<void, EtcdClusterError>
  /** Ends all connections from and to the member, and accepts no others. */
  readonly isolate: (peer: Peer) => Effect.Effect<void>
  readonly rejoin: (peer: Peer) => Effect.Effect<void>
}

interface Link {
  readonly to: number
  readonly sockets: ReadonlyArray<Net.Socket>
  /** The id of the member that opened it, once it is known. */
  from: string | undefined
}

export const make: Effect.Effect<PeerNetwork, never, Scope.Scope> = Effect.gen(function*() {
  const isolated = new Map<string, number>()
  const links = new Set<Link>()
  const servers = new Map<number, Net.Server>()
  const isCut = ({ from, to }: Link): boolean =>
    from !== undefined && isolated.has(from) || [...isolated.values()].includes(to)
  const destroy = (link: Link): void => {
    links.delete(link)
    for (const socket of link.sockets) socket.destroy()
  }

  const accept = (client: Net.Socket, to: number, listening: number): void => {
    const server = Net.connect({ port: listening, host: "127.0.0.1", noDelay: true })
    const link: Link = { to, sockets: [client, server], from: undefined }
    links.add(link)
    for (const socket of link.sockets) {
      socket.on("error", () => {})
      socket.on("close", () => destroy(link))
    }
    if (isCut(link)) return destroy(link)
    client.once("data", (chunk) => {
      link.from = /^x-server-from: ([0-9a-f]+)\r$/im.exec(chunk.toString("latin1"))?.[1]
      if (isCut(link)) return destroy(link)
      server.write(chunk)
      client.pipe(server)
    })
    server.pipe(client)
  }

  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      for (const server of servers.values()) server.close()
      for (const link of links) destroy(link)
    })
  )
  return {
    open: (advertised, listening) =>
      Effect.callback((resume) => {
        if (servers.has(advertised)) return resume(Effect.void)
        const server = Net.createServer({ noDelay: true }, (client) => accept(client, advertised, listening))
        // As if a member could not bind it: the cluster starts over with other ports.
        server.once("error", (error) => resume(Effect.fail(failure("bind", error.message))))
        server.listen({ port: advertised, host: "127.0.0.1", exclusive: true }, () => {
          servers.set(advertised, server)
          resume(Effect.void)
        })
      }),
    isolate: ({ id, port }) =>
      Effect.sync(() => {
        isolated.set(id, port)
        for (const link of links) if (isCut(link)) destroy(link)
      }),
    rejoin: ({ id }) => Effect.sync(() => void isolated.delete(id))
  }
})
