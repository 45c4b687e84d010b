/**
 * The time of the client's internals, in milliseconds.
 */

/** Not Effect's clock: each of its readings makes a bigint. The layer runs on the machine's clock anyway. */
export const now = (): number => performance.now()
