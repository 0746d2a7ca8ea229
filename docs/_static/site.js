// A box that scrolls sideways can be reached and scrolled with the keyboard
function reachable() {
  for (const box of document.querySelectorAll('.cell_output .text_html, .cell_output .output, .highlight pre, .wide, .pst-scrollable-table-container, .math, dt.sig')) {
    const scrolls = box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1;
    if (scrolls && !box.hasAttribute('tabindex')) { box.tabIndex = 0; if (!box.hasAttribute('aria-label')) { box.setAttribute('role', 'region'); box.setAttribute('aria-label', 'scrolls sideways'); } }
  }
}
// The sidebar's arrows have no name of their own
function named() { for (const arrow of document.querySelectorAll('.bd-sidenav details > summary')) arrow.setAttribute('aria-label', 'Pages of ' + arrow.closest('li').querySelector('a').textContent.trim()); }
addEventListener('DOMContentLoaded', named);
addEventListener('load', reachable);
addEventListener('resize', reachable);
addEventListener('toggle', reachable, true);
