/**
 * The schema's name in SQL. A `$` is written as an escape: the text of a function ends at `$fn$`.
 */
export const identifier = (name: string): string => {
  const doubled = name.replaceAll("\"", "\"\"")
  return name.includes("$") ? `U&"${doubled.replaceAll("\\", "\\\\").replaceAll("$", "\\0024")}"` : `"${doubled}"`
}

/** An escape string, because what a backslash means in others depends on `standard_conforming_strings`. */
export const literal = (text: string): string =>
  `E'${text.replaceAll("\\", "\\\\").replaceAll("'", "''").replaceAll("$", "\\044")}'`
