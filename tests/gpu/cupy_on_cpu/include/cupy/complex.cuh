/* CuPy includes its complex numbers everywhere; nothing here computes with them. */
#pragma once
template <class T>
struct complex {
    T re, im;
    complex(T re = 0, T im = 0) : re(re), im(im) {}
    T real() const { return re; }
    T imag() const { return im; }
};
template <class T>
T norm(const complex<T> &x) {
    return x.re * x.re + x.im * x.im;
}
template <class T>
bool isnan(const complex<T> &x) {
    return std::isnan(x.re) || std::isnan(x.im);
}
