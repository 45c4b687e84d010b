/**
 * A part of a key: any text, encoded so that the part ends at the next slash.
 */
export const encode = (text: string): string => text.replaceAll("%", "%25").replaceAll("/", "%2F")
