/**
 * Integers as text: decimal, in the form that is written and no other.
 */

/** `undefined` if the text is not an integer. */
export const parse = (text: string): bigint | undefined => /^(0|-?[1-9][0-9]*)$/.test(text) ? BigInt(text) : undefined
