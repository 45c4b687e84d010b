/**
 * Conversion between text and UTF-8 bytes, and the order of keys.
 */
const encoder = new TextEncoder()
const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })
const lenient = new TextDecoder("utf-8", { ignoreBOM: true })

export const encode = (text: string): Uint8Array => encoder.encode(text)

/** The text of the bytes; `undefined` if they are not UTF-8. */
export const decodeStrict = (bytes: Uint8Array): string | undefined => {
  try {
    return strict.decode(bytes)
  } catch {
    return undefined
  }
}

export const decodeLenient = (bytes: Uint8Array): string => lenient.decode(bytes)

/**
 * Orders well-formed strings by their UTF-8 bytes.
 *
 * UTF-16 code units have the same order, except surrogates: they encode code points above U+FFFF, but are smaller than
 * U+E000 to U+FFFF. So these two groups swap places before the comparison.
 */
export const compare = (a: string, b: string): -1 | 0 | 1 => {
  if (a === b) return 0
  const length = Math.min(a.length, b.length)
  for (let i = 0; i < length; i++) {
    const x = a.charCodeAt(i)
    const y = b.charCodeAt(i)
    if (x !== y) return rank(x) < rank(y) ? -1 : 1
  }
  return a.length < b.length ? -1 : 1
}

const rank = (unit: number): number => unit < 0xd800 ? unit : unit < 0xe000 ? unit + 0x2000 : unit - 0x800

/** The most bytes that a code unit of a string becomes in UTF-8. */
const maxBytesOfUnit = 3

/** The most bytes that a text or bytes can take, without encoding anything. */
export const maxBytes = (value: string | Uint8Array): number =>
  typeof value === "string" ? value.length * maxBytesOfUnit : value.length

/** Number of UTF-8 bytes of a string. */
export const byteLength = (text: string): number => {
  let length = text.length
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i)
    if (unit > 0x7f) length += unit > 0x7ff && (unit < 0xd800 || unit > 0xdfff) ? 2 : 1
  }
  return length
}
