/**
 * The identity of the store, as its responses show it: the cluster's id, and a revision that never decreases.
 *
 * The store behind an address can be replaced: restored from a snapshot, started without its data, or moved to another
 * cluster. Then the client's knowledge concerns a store that no longer exists. A watch that resumed at one of its
 * revisions would silently deliver nothing, or another history. Every response header is therefore compared, and each
 * replacement is reported once.
 *
 * **What is compared.** The cluster's id in every response. The revision only in responses to requests that etcd
 * linearizes: writes, linearizable reads, lease grants and revokes. Such a response never has a lower revision than a
 * response that arrived before its request was sent. Other headers (serializable reads, keep-alives, created watches)
 * have the revision of one member, which may lag. A lower revision there is only a suspicion, which a linearizable read
 * settles (see `storeProbe.ts`).
 *
 * **What cannot be detected.** A restored store keeps its cluster id if it is restored with the same token and peer
 * URLs. If its revision is already past the last one this client saw, its responses do not differ from those of the old
 * store.
 */
import type { Header } from "../wire/header.ts"

/** What was known about the store when a request was sent. */
export interface Sent {
  /** How many times the store had been replaced. */
  readonly generation: number
  /** The highest known revision of the store. */
  readonly revision: bigint
}

/**
 * How a response's revision relates to earlier ones. `Linearizable`: never lower. `Member`: lower if the member lags.
 * `Stale`: often lower.
 */
export type Order = "Linearizable" | "Member" | "Stale"

/** The result of a replaced store: the response is not from the store that the client knew when it sent the request. */
export class Replaced {
  readonly message: string

  constructor(message: string) {
    this.message = message
  }
}

/** The result of comparing a header. `Behind`: the member lags, or the store was replaced. */
export type Observation = "Same" | "Behind" | Replaced

export class StoreIdentity {
  #sent: Sent = { generation: 0, revision: 0n }
  #cluster: { readonly id: bigint; readonly endpoint: string } | undefined
  #replaced: Replaced | undefined
  /** Clusters that the client has left, to recognise one that comes back. */
  readonly #left = new Set<bigint>()
  readonly #listeners = new Set<(replaced: Replaced, isNews: boolean) => void>()

  /** What is known now. Call it when a request is sent, and pass the result to `observe` with the response. */
  sent(): Sent {
    return this.#sent
  }

  /** The last replacement. */
  get replaced(): Replaced | undefined {
    return this.#replaced
  }

  /** Calls the listener at each replacement. `isNews` is false if the client only alternates between known clusters. */
  onReplaced(listener: (replaced: Replaced, isNews: boolean) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  observe(header: Header, sent: Sent, endpoint: string, order: Order): Observation {
    // The response may come from the old store or from the new one.
    if (sent.generation !== this.#sent.generation) return this.#replaced!
    const replaced = this.observeCluster(header, endpoint)
    if (replaced !== undefined) return replaced
    if (header.revision === 0n || header.revision >= sent.revision) return "Same"
    if (order === "Linearizable") return this.#replace(header, endpoint, wentBack(header, sent, endpoint), true)
    return order === "Member" ? "Behind" : "Same"
  }

  /** Compares only the cluster, for responses that belong to no request. */
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
