/** Maps of at most so many entries. It imports no other room. */
export { createLru } from './lru.ts'
