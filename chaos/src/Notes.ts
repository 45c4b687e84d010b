/**
 * Notes of a round's clients: what they saw and what they know of their own work, besides the history of their calls.
 */

/** A leader that an observer saw: the revision of its value, and the value. The revision 0 means that there was none. */
export interface SeenLeader {
  readonly revision: bigint
  readonly value: string
}

/** The notes of a round. */
export interface Notes {
  /** For each client, the leaders that its observer saw, in their order. */
  readonly leaders: Readonly<Record<string, Array<SeenLeader>>>
}

/** Makes the notes of a round that begins. */
export const make = (clients: ReadonlyArray<string>): Notes => ({
  leaders: Object.fromEntries(clients.map((name) => [name, []]))
})
