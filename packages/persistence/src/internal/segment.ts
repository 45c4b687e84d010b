/**
 * Names as one segment of a key: any string, escaped so that it contains no slash and is well-formed Unicode.
 *
 * Two names never have the same segment, and no segment with a slash behind it is a prefix of another one. So the keys of
 * `a`, `ab` and `a/b` are apart from each other.
 */

const unsafe = /%|\/|\p{Surrogate}/gu
const escaped = /%(?:u([0-9A-F]{4})|([0-9A-F]{2}))/g

/** The segment of a name. */
export const of = (name: string): string => name.replace(unsafe, escape)

const escape = (character: string): string => {
  const code = character.charCodeAt(0).toString(16).toUpperCase()
  return code.length > 2 ? `%u${code}` : `%${code}`
}

/** The name of a segment. */
export const nameOf = (segment: string): string =>
  segment.replace(
    escaped,
    (_, long: string | undefined, short: string | undefined) =>
      String.fromCharCode(Number.parseInt(long ?? short ?? "", 16))
  )
