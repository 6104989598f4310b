/** `1 tenant`, `2 tenants`, `3 policies`. @param one the word for one */
export const countOf = (count: number, one: string): string =>
  `${count} ${count === 1 ? one : /[^aeo]y$/.test(one) ? `${one.slice(0, -1)}ies` : `${one}s`}`
