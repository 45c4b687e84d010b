/**
 * The store a client talks to, as its responses identify it: the cluster's id, and a revision that only grows.
 *
 * Behind an unchanged address the store can be replaced: restored from a snapshot, started without its data, or moved to
 * another cluster. What a client knows then is about a store that no longer exists, and resuming a watch from one of its
 * revisions would silently deliver nothing, or another history. Every response's header is observed here, and a
 * replacement is reported once.
 *
 * **What is compared.** The cluster's id in every response. The revision only in responses to requests that etcd
 * linearizes (writes, linearizable reads, granting and revoking leases): such a response is never at a lower revision than
 * one that was received before its request was sent. All other headers (serializable reads, keep-alives, created watches)
 * carry what one member knows, and a member may lag. A lower revision there proves nothing; it is a suspicion, which a
 * linearizable read settles (see `storeProbe.ts`).
 *
 * **What is not noticed.** A restored store keeps its cluster's id if it is restored with the same token and peer URLs.
 * If it is already past the last revision that this client saw, nothing in its responses tells it from the old one.
 */
import type { Header } from "../wire/header.ts"

/** What was known when a request was sent. */
export interface Sent {
  /** How often the store had been replaced. */
  readonly generation: number
  /** The highest revision that the store was known to have had. */
  readonly revision: bigint
}

/** `Linearizable`: see above. `Member`: what one member knows, which should not be behind. `Stale`: it may well be. */
export type Order = "Linearizable" | "Member" | "Stale"

/** The store was replaced: the response is not from the store that the client knew when it sent the request. */
export class Replaced {
  readonly message: string

  constructor(message: string) {
    this.message = message
  }
}

/** What a header says. `Behind`: the member lags, or the store was replaced. */
export type Observation = "Same" | "Behind" | Replaced

export class StoreIdentity {
  #sent: Sent = { generation: 0, revision: 0n }
  #cluster: { readonly id: bigint; readonly endpoint: string } | undefined
  #replaced: Replaced | undefined
  /** The clusters that were left, to recognise one that comes back. */
  readonly #left = new Set<bigint>()
  readonly #listeners = new Set<(replaced: Replaced, isNews: boolean) => void>()

  /** To be called when a request is sent, for `observe` when its response comes. */
  sent(): Sent {
    return this.#sent
  }

  /** The last replacement. */
  get replaced(): Replaced | undefined {
    return this.#replaced
  }

  /** Calls the function at each replacement; `isNews` is false if the client only goes back and forth between clusters. */
  onReplaced(listener: (replaced: Replaced, isNews: boolean) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  observe(header: Header, sent: Sent, endpoint: string, order: Order): Observation {
    // The response may be of the old store or of the new one.
    if (sent.generation !== this.#sent.generation) return this.#replaced!
    const replaced = this.observeCluster(header, endpoint)
    if (replaced !== undefined) return replaced
    if (header.revision === 0n || header.revision >= sent.revision) return "Same"
    if (order === "Linearizable") return this.#replace(header, endpoint, wentBack(header, sent, endpoint), true)
    return order === "Member" ? "Behind" : "Same"
  }

  /** Compares the cluster alone: for responses to no request of their own. */
  observeCluster(header: Header, endpoint: string): Replaced | undefined {
    const { clusterId, revision } = header
    if (clusterId !== 0n) {
      const known = this.#cluster
      if (known === undefined) {
        this.#cluster = { id: clusterId, endpoint }
      } else if (known.id !== clusterId) {
        const isBack = this.#left.has(clusterId)
        const isNews = !isBack || !this.#left.has(known.id)
        this.#left.add(known.id)
        return this.#replace(header, endpoint, otherCluster(header, endpoint, known, isBack), isNews)
      }
    }
    if (revision > this.#sent.revision) this.#sent = { generation: this.#sent.generation, revision }
    return undefined
  }

  #replace(header: Header, endpoint: string, message: string, isNews: boolean): Replaced {
    const replaced = new Replaced(`the store was replaced: ${message}`)
    this.#replaced = replaced
    this.#sent = { generation: this.#sent.generation + 1, revision: header.revision }
    if (header.clusterId !== 0n) this.#cluster = { id: header.clusterId, endpoint }
    for (const listener of Array.from(this.#listeners)) listener(replaced, isNews)
    return replaced
  }
}

const wentBack = (header: Header, sent: Sent, endpoint: string): string =>
  `${endpoint} is at revision ${header.revision}, and the store was at revision ${sent.revision} before; ` +
  "it was restored from a backup or lost its data"

const otherCluster = (
  header: Header,
  endpoint: string,
  known: { readonly id: bigint; readonly endpoint: string },
  isBack: boolean
): string => {
  const ids = `cluster ${header.clusterId.toString(16)}`
  const before = `cluster ${known.id.toString(16)}`
  const where = endpoint === known.endpoint
    ? `${endpoint} leads to ${ids}, and led to ${before} before`
    : `${endpoint} leads to ${ids}, and ${known.endpoint} to ${before}`
  return isBack ? `${where}; the endpoints of one client must be members of one cluster` : where
}
