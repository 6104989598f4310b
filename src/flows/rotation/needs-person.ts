/** What a rotation must not decide by itself. The message is the sentence that its status shows; no secret is in it. */
export class NeedsPerson extends Error {}

/** Nothing is left that a rotation could work on: it ends, and says why. */
export class NothingLeft extends Error {}
