/**
 * Calls to a part that is built later than its caller: calls that come before it exists are kept, and made in their order once it does.
 * It is for news whose sender waits for no answer.
 */
export interface Handover<News extends readonly unknown[]> {
  readonly tell: (...news: News) => void
  /** From now on `tell` calls this. @throws what it throws for the calls that were kept */
  readonly to: (receive: (...news: News) => void) => void
}

export const createHandover = <News extends readonly unknown[]>(): Handover<News> => {
  const kept: News[] = []
  let receiver: ((...news: News) => void) | undefined
  return {
    tell(...news) {
      if (receiver === undefined) kept.push(news)
      else receiver(...news)
    },
    to(receive) {
      receiver = receive
      for (const news of kept.splice(0)) receive(...news)
    },
  }
}
