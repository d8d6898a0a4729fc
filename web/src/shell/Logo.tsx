/** Twin stars, one orange, one pale, held by a line: the twin and its device. */
export function Logo({ size = 26 }: { size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 32 32" aria-hidden="true" className="logo">
      <path d="M13.5 18.5 18.5 13.5" className="logo-line" strokeWidth="1.5" strokeLinecap="round" />
      <path className="logo-pollux" d="M11 13c.6 5.2 2.8 7.4 8 8c-5.2.6-7.4 2.8-8 8c-.6-5.2-2.8-7.4-8-8c5.2-.6 7.4-2.8 8-8Z" />
      <path className="logo-castor" d="M21.5 3.5c.5 4.5 2.5 6.5 7 7c-4.5.5-6.5 2.5-7 7c-.5-4.5-2.5-6.5-7-7c4.5-.5 6.5-2.5 7-7Z" />
    </svg>
  );
}
